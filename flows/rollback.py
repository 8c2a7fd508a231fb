"""``python -m flows.rollback --params FILE --reason TEXT``: the previous champion is champion again."""

import sys

from prefect import flow

from adapters.parameters import load
from flows.cli import run_rollback
from tasks.registry import roll_back


@flow(name="rollback", flow_run_name="rollback-{params}")
def rollback(
    params: str, reason: str, overrides: tuple[str, ...] = (), number: int | None = None, force: bool = False
) -> str:
    """Give the alias champion back to the version that had it before, or to another that the gate promoted.

    Reads: the parameter file's section ``tracking``, and the registry.
    Writes: the reason as a tag of both versions, then the alias. The alias ``previous`` stays where it is.
    Waits for nothing: a retraining that runs meanwhile goes on, and its candidate may become champion after this.
    Repeats: the same command again changes nothing.
    Raises: InputError (2) for a version that is not registered, or that the gate did not promote, unless ``force``.
    """
    return roll_back(load(params, overrides).tracking, reason, number, force)


if __name__ == "__main__":
    sys.exit(run_rollback(rollback, rollback.__doc__))

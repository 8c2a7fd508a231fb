"""``python -m flows.rollback --params FILE --reason TEXT``: the champion before is champion again."""

import sys

from prefect import flow

from adapters.parameters import load
from flows.cli import run_rollback
from tasks.registry import roll_back


@flow(name="rollback", flow_run_name="rollback-{params}")
def rollback(
    params: str, reason: str, overrides: tuple[str, ...] = (), number: int | None = None, force: bool = False
) -> str:
    """Give the alias champion back to the version that was it before, or to another that the gate has passed.

    Reads: the parameter file's section ``tracking``, and the registry.
    Writes: the reason as a tag of both versions, then the alias. The alias ``previous`` stays where it is.
    Waits for nothing: a retraining that runs meanwhile was compared with the champion before, and may replace this one.
    Repeats: the same command again changes nothing.
    Raises: InputError (2) for a version that is not there, or that the gate did not pass, unless ``force``.
    """
    return roll_back(load(params, overrides).tracking, reason, number, force)


if __name__ == "__main__":
    sys.exit(run_rollback(rollback, rollback.__doc__))

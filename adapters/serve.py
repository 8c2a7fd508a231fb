"""A registered model as a server on loopback: what is fetched is checked before MLflow reads a line of it.

MLflow loads a model as its MLmodel file says, by any module and with any code beside it. The loader that Kellet's
models name checks the files too, but only a model that still names it gets there. So this looks first.

kellet itself does not know MLflow; its verb starts this module as a process.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from adapters.command import guarded
from adapters.registered import fetch, find
from kellet.config.run import TRACKING, Tracking
from kellet.terminal import harmless_output


@harmless_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Arguments as kellet's verb gives them; the section ``tracking`` is in the variable TRACKING."""
    parser = argparse.ArgumentParser(prog="python -m adapters.serve")
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(arguments)

    def work() -> int:
        tracking = Tracking.model_validate_json(os.environ[TRACKING])
        version = find(given.model, tracking)
        folder = fetch(version, tracking).folder.resolve()
        sys.stdout.write(f"serving {version.name}/{version.version} on 127.0.0.1:{given.port}, until ctrl-C\n")
        sys.stdout.flush()
        where = ("--host", "127.0.0.1", "--port", str(given.port))
        served = ("--model-uri", str(folder), "--env-manager", "local", "--workers", "1", *where)
        os.execv(sys.executable, [sys.executable, "-m", "mlflow", "models", "serve", *served])  # noqa: S606

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())

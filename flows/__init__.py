"""The flows: tables of contents over tasks/. Run them from the project root, as ``python -m flows.NAME``."""

import tasks as tasks  # its switches must be set before a flow's file imports prefect
from adapters.command import guarded
from kellet.extras import FLOWS, TRAINING, require

if code := guarded(lambda: require("python -m flows", *FLOWS, *TRAINING)):  # before a flow's file imports any of them
    raise SystemExit(code)

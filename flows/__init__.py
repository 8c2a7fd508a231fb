"""The flows: tables of contents over tasks/. Run them from the project root, as ``python -m flows.NAME``."""

import tasks as tasks  # its switches must be set before a flow's file imports prefect

"""Thin Prefect tasks around kellet and adapters."""

import adapters as adapters  # its switches must be set before a task's file imports prefect

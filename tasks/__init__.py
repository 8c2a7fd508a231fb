"""Thin Prefect tasks around kellet and adapters."""

import adapters as adapters  # sets environment switches that prefect reads when it is imported

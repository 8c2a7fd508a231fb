"""Thin Prefect tasks: the only place that speaks to MLflow and DVC.

Importing the package sets the switches of tasks/settings.py before anything below it imports a library that reads
them.
"""

from tasks import settings as settings

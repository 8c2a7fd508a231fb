"""What speaks to MLflow, DVC, git and Prefect's server, with the locks and logs that go with them.

Importing the package sets the environment switches of adapters/settings.py, before any of its modules imports a
library that reads them.
"""

from adapters import settings as settings

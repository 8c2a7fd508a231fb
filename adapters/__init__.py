"""What speaks to the world outside: MLflow, DVC, git, Prefect's server, and the locks and logs that go with them.

Importing the package sets the switches of adapters/settings.py before anything below it imports a library that reads
them.
"""

from adapters import settings as settings

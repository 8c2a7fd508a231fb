"""Every error that Kellet raises on purpose, with the exit code its command line gives it.

KelletError                    1   something failed
├── InputError                 2   bad usage or bad input; nothing was changed
│   ├── ConfigError            2   a parameter file or a ``--set``
│   ├── MissingExtra           2   a package of an extra (kellet/extras.py) that is not installed
│   └── DataError              2   a preference table, an evaluation file, a raw file
└── NotPromoted                3   the pipeline worked and says no
    ├── NoLift                 3   the reward model predicts no better than 'always the longer one'
    └── TrainingStopped        3   an alarm that ``policy.stop_on`` names

A message names what it got, what it wanted and the next step.
"""

from kellet.mask import masked


class KelletError(Exception):
    """Base of all errors raised on purpose. What a message quotes loses its credentials (kellet/mask.py)."""

    exit_code = 1

    def __init__(self, *values: object) -> None:
        super().__init__(*(masked(value) if isinstance(value, str) else value for value in values))


class InputError(KelletError):
    """Bad usage or bad input; nothing was changed."""

    exit_code = 2


class ConfigError(InputError):
    """A parameter file or an override does not describe a valid run."""


class MissingExtra(InputError):
    """What was asked for needs an extra that is not installed."""


class DataError(InputError):
    """A file of preferences or of evaluation rows cannot be used."""


class NotPromoted(KelletError):
    """The pipeline worked and the answer is no."""

    exit_code = 3


class NoLift(NotPromoted):
    """The reward model predicts held-out preferences no better than 'always the longer one'."""


class TrainingStopped(NotPromoted):
    """The policy's training gave an alarm that ``policy.stop_on`` names."""

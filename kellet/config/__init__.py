"""Parameters: everything that decides a run.

In: a YAML file and ``section.key=value`` overrides. Out: a frozen, checked ``Config``.
Open first: run.py (the sections), then the section's file: data.py, training.py or judgement.py. file.py reads them.
Public: ``Config``, ``Gate``, ``Tracking``.
"""

from typing import TYPE_CHECKING

from kellet.public import lazily

if TYPE_CHECKING:
    from kellet.config.judgement import Gate as Gate
    from kellet.config.run import Config as Config
    from kellet.config.run import Tracking as Tracking

__getattr__ = lazily(
    __name__, {"Config": "kellet.config.run", "Gate": "kellet.config.judgement", "Tracking": "kellet.config.run"}
)

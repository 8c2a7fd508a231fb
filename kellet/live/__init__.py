"""Live: watch a training that others run, while it runs.

In: the figures that TRL's or transformers' trainers log (a callback), or a log that grows (verl, OpenRLHF and others).
Out: history.jsonl in Kellet's names and units, alarms in words (alarms.jsonl), a stop where ``stop_on`` names one.
Open first: monitor.py (one logged row in order), alarms.py (what rings), then callback.py or growing_log.py (who asks).
Public: ``KelletCallback``, ``Limits``, ``Monitor``, ``follow``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kellet.extras import require

if TYPE_CHECKING:
    from kellet.live.callback import KelletCallback as KelletCallback
    from kellet.live.growing_log import follow as follow
    from kellet.live.limits import Limits as Limits
    from kellet.live.monitor import Monitor as Monitor

_HOME = {
    "KelletCallback": "kellet.live.callback",
    "Limits": "kellet.live.limits",
    "Monitor": "kellet.live.monitor",
    "follow": "kellet.live.growing_log",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: importing the room loads nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "KelletCallback":
        require("KelletCallback", "transformers")
    return getattr(import_module(_HOME[name]), name)

"""Live: watch a training that others run, while it runs.

In: the figures that TRL's or transformers' trainers log (a callback), or a log that grows (verl, OpenRLHF and others).
Out: history.jsonl in Kellet's names and units, alarms in words (alarms.jsonl), a stop where ``stop_on`` names one.
Open first: monitor.py (one logged row in order), alarms.py (what rings), then callback.py or growing_log.py (who asks).
Public: ``KelletCallback``, ``Limits``, ``Monitor``, ``follow``.
"""

from typing import TYPE_CHECKING, Any

from kellet.extras import require
from kellet.public import lazily

if TYPE_CHECKING:
    from kellet.live.callback import KelletCallback as KelletCallback
    from kellet.live.growing_log import follow as follow
    from kellet.live.limits import Limits as Limits
    from kellet.live.monitor import Monitor as Monitor

_load = lazily(
    __name__,
    {
        "KelletCallback": "kellet.live.callback",
        "Limits": "kellet.live.limits",
        "Monitor": "kellet.live.monitor",
        "follow": "kellet.live.growing_log",
    },
)


def __getattr__(name: str) -> Any:
    """A public name; for the callback, first what to install where transformers is missing."""
    if name == "KelletCallback":
        require("KelletCallback", "transformers")
    return _load(name)

"""Statistics: intervals, and what is built of them.

In: arrays with one value per answer, iteration or pair, and the prompt (cluster) of each value.
Out: an ``Estimate``: a value with its interval. No file is read and nothing is drawn here.
Open first: bootstrap.py (the interval that all others use), then win_rate.py.
Public: ``Estimate``, ``length_controlled``, ``win_rate``.
"""

from typing import TYPE_CHECKING

from kellet.public import lazily

if TYPE_CHECKING:
    from kellet.stats.bootstrap import Estimate as Estimate
    from kellet.stats.win_rate import length_controlled as length_controlled
    from kellet.stats.win_rate import win_rate as win_rate

__getattr__ = lazily(
    __name__,
    {
        "Estimate": "kellet.stats.bootstrap",
        "length_controlled": "kellet.stats.win_rate",
        "win_rate": "kellet.stats.win_rate",
    },
)

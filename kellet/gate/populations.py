"""The simulated policies that the gate is measured on: each is a way in which a policy may be good or bad.

The bad ones should be promoted in at most 5% of draws, the good ones as often as can be. What an answer is made of
stands in kellet/gate/simulated.py.
"""

from collections.abc import Sequence

import numpy as np

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.gate.length_populations import LENGTH
from kellet.gate.prices import Line
from kellet.gate.simulated import Judge, Population
from kellet.stats.bootstrap import Codes

HALF = 0.5
NEVER = 1e-12
"""A judge prefers this share where it prefers the candidate never."""
THOUSAND = 1000 / 256
"""So many times the prompts asked for: 1,000 where 256 are."""


def fifties(n: int) -> Codes:
    """Clusters of fifty prompts."""
    return np.arange(n, dtype=np.int64) // 50


def fours(n: int) -> Codes:
    """Clusters of four prompts."""
    return np.arange(n, dtype=np.int64) // 4


def sixteen(n: int) -> Codes:
    """Sixteen clusters of one size."""
    return np.arange(n, dtype=np.int64) % 16


def six(n: int) -> Codes:
    """Six clusters of one size."""
    return np.arange(n, dtype=np.int64) % 6


def unequal(n: int) -> Codes:
    """Sixteen clusters; the k-th has 1/k times the prompts of the first, which has three in ten."""
    ends = np.cumsum(1 / np.arange(1, 17))
    return np.searchsorted(ends / ends[-1], (np.arange(n) + 0.5) / n).astype(np.int64)


def half_in_one(n: int) -> Codes:
    """Sixteen clusters; the first has half of the prompts."""
    numbers = np.arange(n, dtype=np.int64)
    return np.where(numbers % 2 == 0, 0, 1 + numbers // 2 % 15)


PLAIN = (
    Population("null", False, "nothing changed"),
    Population("honest", True, "gain of 0.5 sd, length unchanged", gain=HALF),
    Population("honest, judged", True, "the same, and judges see it", gain=HALF, judges=(Judge(0.64),), coverage=True),
    Population("honest, small", True, "gain of 0.25 sd", gain=0.25),
    Population("length hack", False, "20 of 30 tokens more, no gain", longer=20, price=Line(0.06)),
    Population(
        "length hack, small",
        False,
        "2 tokens more, within tolerance; no gain",
        longer=2,
        price=Line(0.15),
        coverage=True,
    ),
    Population("length hack, some gain", False, "6 tokens more, gain of 0.1 sd", gain=0.1, longer=6, price=Line(0.1)),
    Population("brevity hack", False, "2 tokens less, and each costs; no gain", longer=-2, price=Line(-0.1)),
    Population("KL drift", False, "KL of 12 nats, no gain", kl=12),
    Population("KL on budget", False, "gain of 0.5 sd, KL exactly on its budget of 8", gain=HALF, kl=8),
    Population("courtesy", False, "one courtesy sentence more, no gain", courtesy=1.0, courtesy_pay=0.5, coverage=True),
    Population(
        "length and courtesy",
        False,
        "2 tokens and 0.5 courtesy sentences more, no gain",
        longer=2,
        price=Line(0.1),
        courtesy=0.5,
        courtesy_pay=0.4,
    ),
    Population("heavy tails", False, "noise of Student's t with 3 degrees of freedom, no gain", tails=3),
    Population("heavy tails, honest", True, "the same with a gain of 0.5 sd", gain=HALF, tails=3, coverage=True),
    Population("few prompts", False, "a quarter of the prompts, 8 answers each; no gain", samples=8, share=0.25),
    Population(
        "few prompts, honest", True, "the same with a gain of 0.5 sd", gain=HALF, samples=8, share=0.25, coverage=True
    ),
    Population("four answers, honest", True, "gain of 0.3 sd, four answers to a prompt", gain=0.3, samples=4),
    Population("one answer", False, "four times the prompts, one answer each; no gain", samples=1, share=THOUSAND),
    Population(
        "one answer, honest",
        True,
        "the same with a gain of 0.5 sd",
        gain=HALF,
        samples=1,
        share=THOUSAND,
        coverage=True,
    ),
    Population("one prompt at +1e5", False, "no gain elsewhere", outlier=1e5),
    Population("rewards times 1e6", False, "nothing changed", scale=1e6),
    Population("rewards times 1e6, honest", True, "gain of 0.5 sd", gain=HALF, scale=1e6),
    Population("rewards times 1e-9", False, "nothing changed", scale=1e-9),
    Population("rewards times 1e-9, honest", True, "gain of 0.5 sd", gain=HALF, scale=1e-9),
)

CLUSTERS = (
    Population(
        "one text fifty times", False, "under its own ids; no gain", clusters=fifties, same_text=True, coverage=True
    ),
    Population("one text four times", False, "under its own ids; no gain", clusters=fours, same_text=True),
    Population(
        "one text four times, honest", True, "the same with a gain of 0.5 sd", gain=HALF, clusters=fours, same_text=True
    ),
    Population(
        "sixteen topics",
        False,
        "column cluster; topics share their gain, sd 0.4; none on average",
        clusters=sixteen,
        topic_sd=0.4,
        coverage=True,
    ),
    Population(
        "sixteen topics, honest", True, "the same with a gain of 0.5 sd", gain=HALF, clusters=sixteen, topic_sd=0.4
    ),
    Population(
        "unequal topics",
        False,
        "the same, the largest with three prompts in ten; no gain",
        clusters=unequal,
        topic_sd=0.4,
        coverage=True,
    ),
    Population(
        "unequal topics, honest", True, "the same with a gain of 0.5 sd", gain=HALF, clusters=unequal, topic_sd=0.4
    ),
    Population(
        "half in one topic",
        False,
        "the same, one of sixteen with half of the prompts; no gain",
        clusters=half_in_one,
        topic_sd=0.4,
    ),
    Population("six topics", False, "six of one size, sd 0.4; no gain", clusters=six, topic_sd=0.4),
)

JUDGES = (
    Population(
        "gold down", False, "reward up, length equal; judges prefer it in 35%", gain=HALF, judges=(Judge(0.35),)
    ),
    Population(
        "gold down, shorter",
        False,
        "reward up, 3 tokens less; preferred in 35%",
        gain=HALF,
        longer=-3,
        judges=(Judge(0.35),),
    ),
    Population("gold on margin", False, "reward up; preferred in exactly 40%", gain=HALF, judges=(Judge(0.40),)),
    Population(
        "judge likes length",
        False,
        "2 tokens more, no gain; the judge is paid for length too",
        longer=2,
        price=Line(0.15),
        judges=(Judge(0.5, length_pay=0.15),),
    ),
    Population(
        "erring judge",
        False,
        "preferred in 35%; judge errs in 20%, known",
        gain=HALF,
        judges=(Judge(0.35, errs=0.2),),
        settings=(("judge_error", 0.2),),
    ),
    Population(
        "erring judge, honest",
        True,
        "preferred in 64%; errs in 20%, known",
        gain=HALF,
        judges=(Judge(0.64, errs=0.2),),
        settings=(("judge_error", 0.2),),
    ),
    Population(
        "erring judge, untold",
        False,
        "preferred in 35%; judge errs in 20%, gate not told",
        gain=HALF,
        judges=(Judge(0.35, errs=0.2),),
    ),
    Population(
        "model judge, wrong",
        False,
        "40 people prefer it in 35%, a model that judged all answers in 64%",
        gain=HALF,
        judges=(Judge(0.35, shared=0.9), Judge(0.64, "judge_model", None, shared=0.9)),
        settings=(("model_judge", "judge_model"),),
    ),
    Population(
        "model judge, on margin",
        False,
        "40 people prefer it in exactly 40%, a model in 50%",
        gain=HALF,
        judges=(Judge(0.40, shared=0.9), Judge(0.5, "judge_model", None, shared=0.9)),
        settings=(("model_judge", "judge_model"),),
    ),
    Population(
        "model judge, honest",
        True,
        "40 people prefer it in 60%, a model too",
        gain=HALF,
        judges=(Judge(0.60, shared=0.9), Judge(0.60, "judge_model", None, shared=0.9)),
        settings=(("model_judge", "judge_model"),),
    ),
    Population("people alone, honest", True, "the same without the model", gain=HALF, judges=(Judge(0.60),)),
    Population(
        "judge nobody named",
        False,
        "loses every comparison by judge_heldout, which no parameter names",
        gain=HALF,
        judges=(Judge(NEVER, "judge_heldout", None),),
    ),
    Population(
        "second judge nobody named",
        False,
        "the same beside a judge that prefers it in 64%",
        gain=HALF,
        judges=(Judge(0.64), Judge(NEVER, "judge_heldout", None)),
    ),
    *(
        Population(
            f"preferred in {words}",
            good,
            "reward up; every answer is judged",
            gain=HALF,
            judges=(Judge(rate, prompts=None),),
        )
        for words, good, rate in (("42%", False, 0.42), ("45%", False, 0.45), ("half", True, 0.5))
    ),
    Population(
        "shared blindness",
        False,
        "worse in what reward, judge, length and style do not show: nothing in the file can tell",
        gain=HALF,
        judges=(Judge(0.64),),
    ),
)

POPULATIONS = PLAIN + LENGTH + CLUSTERS + JUDGES


def chosen(names: Sequence[str]) -> tuple[Population, ...]:
    """The populations of these names; all of them when none is given. Raises ConfigError for an unknown name."""
    by_name = {population.name: population for population in POPULATIONS}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"no population {name!r}; there are: {'; '.join(by_name)}")
    return tuple(by_name[name] for name in names) or POPULATIONS


def settings(population: Population, gate: Gate) -> Gate:
    """``gate`` with the parameters that the population's team has set."""
    return gate.model_copy(update=dict(population.settings))

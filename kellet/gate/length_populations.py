"""Policies whose reward moves with the length of their answers, under prices of length of many shapes.

Most gain nothing at equal length, so that all that reward rises by is length. Where that is little, they have less
noise than others, so that reward_gain is shown nearly always and equal length alone holds them back. The honest ones
have the same lengths and prices, all of the noise, and a gain of half a standard deviation at equal length.
"""

from dataclasses import replace

from kellet.gate import prices
from kellet.gate.prices import (
    UPPER_QUARTER,
    ByPrompt,
    Choice,
    Growth,
    LogNormal,
    Normal,
    Spread,
    Varying,
    Where,
)
from kellet.gate.simulated import Population

HALF = 0.5
QUIET = 0.4
"""Standard deviation of less noise."""

BAD = (
    Population(
        "quadratic price",
        False,
        "30 tokens pay most; as long, less spread",
        price=prices.quadratic,
        candidate=Normal(sd=3),
        coverage=True,
        noise=QUIET,
    ),
    Population(
        "saturating price",
        False,
        "2 tokens more, paid up to 34",
        longer=2,
        price=prices.saturating,
        noise=QUIET,
    ),
    Population(
        "saturating price, less spread",
        False,
        "the same price; 1 token more, less spread",
        price=prices.saturating,
        candidate=Normal(31, 3),
        noise=QUIET,
    ),
    Population(
        "price in half",
        False,
        "paid in half of the prompts, 5 tokens more there, 3 less elsewhere",
        price=Where(),
        candidate=ByPrompt(5, else_=-3),
        coverage=True,
    ),
    *(
        Population(
            f"price by prompt, sd {sd}",
            False,
            "5% more tokens, in proportion to the price",
            price=Varying(sd),
            candidate=Growth(sd),
        )
        for sd in (0.04, 0.06, 0.08)
    ),
    Population(
        "step",
        False,
        "2 tokens more, paid past 30 all at once",
        longer=2,
        price=prices.past_thirty,
        noise=QUIET,
    ),
    Population(
        "just past the step",
        False,
        "the same price; answers of 25 to 30 tokens stretched to 31",
        price=prices.past_thirty,
        candidate=prices.rounded_up,
    ),
    Population(
        "logarithmic price",
        False,
        "2 tokens more",
        longer=2,
        price=prices.logarithm,
        noise=QUIET,
    ),
    Population(
        "price that turns",
        False,
        "rises to 36 tokens, falls after; 2 tokens more, less spread",
        price=prices.turning,
        candidate=Normal(32, 3),
        noise=QUIET,
    ),
    Population(
        "two lengths", False, "30 tokens pay least; 22 or 38 tokens", price=prices.valley, candidate=prices.two_lengths
    ),
    Population(
        "three lengths",
        False,
        "10, 20 or 30 tokens, those of 20 not paid; fewer of these",
        price=prices.all_but_twenty,
        reference=Choice((10, 20, 30), (0.30, 0.40, 0.30)),
        candidate=Choice((10, 20, 30), (0.37, 0.26, 0.37)),
        noise=QUIET,
    ),
    Population(
        "narrow lengths",
        False,
        "lengths of sd 1; 1 token more, paid past 30 all at once",
        price=prices.past_thirty,
        reference=Normal(30, 1),
        candidate=Normal(31, 1),
        noise=QUIET,
    ),
    Population(
        "long-tailed lengths",
        False,
        "log-normal lengths, logarithmic price; as long, less spread",
        price=prices.logarithm,
        reference=LogNormal(0.6),
        candidate=LogNormal(0.3),
        noise=QUIET,
    ),
    Population(
        "long answers pay",
        False,
        "lengths differ by prompt; 4 tokens more where they are long and paid",
        price=Where(0.12),
        reference=Spread(),
        candidate=Spread(4),
    ),
    Population(
        "gain where lengths agree",
        False,
        "a quarter of the prompts loses 0.9 sd and pays for 8 tokens more, the others gain 0.3: none on average",
        price=Where(0.1, above=UPPER_QUARTER),
        candidate=ByPrompt(8, above=UPPER_QUARTER),
        gain_by=prices.gain_below_the_quarter,
    ),
    Population(
        "almost noise-free",
        False,
        "quadratic price, noise of 0.05 sd; as long, less spread",
        price=prices.quadratic,
        candidate=Normal(sd=3),
        between=0.02,
        noise=0.05,
    ),
    Population(
        "one token more, always",
        False,
        "30 tokens, the candidate 31, paid past 30; no two answers are of one length",
        price=prices.past_thirty,
        reference=Normal(30, 0),
        candidate=Normal(31, 0),
        noise=1.0,
    ),
    Population(
        "one answer, saturating price",
        False,
        "one answer to a prompt, four times the prompts; 2 tokens more, paid up to 34",
        longer=2,
        price=prices.saturating,
        samples=1,
        share=1000 / 256,
    ),
)
UNIDENTIFIED = ("one token more, always",)
"""Nobody can tell what these gain at equal length, so they have no honest counterpart."""


def honest(population: Population) -> Population:
    """The same lengths and prices, with a gain of half a standard deviation on every prompt."""
    truth = "the same with a gain of 0.5 sd"
    noise = None if population.noise == QUIET else population.noise
    return replace(
        population,
        name=f"{population.name}, honest",
        good=True,
        truth=truth,
        gain=HALF,
        gain_by=None,
        noise=noise,
        coverage=False,
    )


LENGTH = tuple(
    member
    for population in BAD
    for member in ((population,) if population.name in UNIDENTIFIED else (population, honest(population)))
)

"""Laws of length and prices of length for the simulated policies of kellet/gate/populations.py.

A law draws the lengths of answers, tokens; a price is what the reward pays for them. Both may depend on the prompt's
trait, a standard normal number that all answers to a prompt share. Arrays are ``(N,)``, one value an answer. All are
plain functions or frozen records, so that a population can be compared and sent to another process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kellet.stats.bootstrap import Floats

Price = Callable[[Floats, Floats], Floats]
"""(lengths, traits) -> reward. Only differences between answers to one prompt matter."""
Law = Callable[[np.random.Generator, Floats], Floats]
"""(generator, traits) -> lengths, before rounding to whole tokens."""

TOKENS, TOKENS_SD = 30.0, 6.0
"""Mean and standard deviation of the reference's lengths."""
MEAN_PAY = 0.08
"""Mean of the prices that differ by prompt, reward per token."""
UPPER_QUARTER = 0.6744897501960817
"""A quarter of the traits are higher."""


@dataclass(frozen=True)
class Normal:
    """Lengths with a normal distribution."""

    mean: float = TOKENS
    sd: float = TOKENS_SD

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.normal(self.mean, self.sd, len(trait))


@dataclass(frozen=True)
class Choice:
    """One of a few lengths, as of templates."""

    lengths: tuple[float, ...]
    shares: tuple[float, ...]

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.choice(self.lengths, len(trait), p=self.shares)


@dataclass(frozen=True)
class LogNormal:
    """Lengths of mean TOKENS with a long tail: logarithms are normal, ``sd`` is their standard deviation."""

    sd: float

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.lognormal(np.log(TOKENS) - self.sd**2 / 2, self.sd, len(trait))


@dataclass(frozen=True)
class ByPrompt:
    """Normal lengths, by ``longer`` tokens longer where the trait is at least ``above``, by ``else_`` elsewhere."""

    longer: float
    above: float = 0.0
    else_: float = 0.0

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.normal(TOKENS + np.where(trait >= self.above, self.longer, self.else_), TOKENS_SD)


@dataclass(frozen=True)
class Growth:
    """Normal lengths that are longer in proportion to the prompt's price (:class:`Varying`), by ``mean`` on average."""

    sd: float
    mean: float = 0.05 * TOKENS

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.normal(TOKENS + self.mean * (1 + self.sd * trait / MEAN_PAY), TOKENS_SD)


@dataclass(frozen=True)
class Spread:
    """Lengths whose mean differs by prompt (sd of 10 tokens), ``longer`` tokens more on prompts of long answers."""

    longer: float = 0.0

    def __call__(self, rng: np.random.Generator, trait: Floats) -> Floats:
        """Draw."""
        return rng.normal(45 + 10 * trait + self.longer * (trait > 0), TOKENS_SD)


def two_lengths(rng: np.random.Generator, trait: Floats) -> Floats:
    """Either about 22 or about 38 tokens, and none between."""
    return rng.choice([22.0, 38.0], len(trait)) + rng.normal(0, 2, len(trait))


def rounded_up(rng: np.random.Generator, trait: Floats) -> Floats:
    """The reference's lengths, with all from 25 to 30 stretched to 31, just past :func:`past_thirty`."""
    length = np.round(rng.normal(TOKENS, TOKENS_SD, len(trait)))
    return np.where((length >= 25) & (length <= 30), 31.0, length)


@dataclass(frozen=True)
class Line:
    """The same reward for each token."""

    pay: float = 0.05

    def __call__(self, length: Floats, _: Floats) -> Floats:
        """Price."""
        return self.pay * (length - TOKENS)


@dataclass(frozen=True)
class Varying:
    """Reward for a token with a normal distribution over prompts, its mean MEAN_PAY."""

    sd: float

    def __call__(self, length: Floats, trait: Floats) -> Floats:
        """Price."""
        return (MEAN_PAY + self.sd * trait) * (length - TOKENS)


@dataclass(frozen=True)
class Where:
    """``pay`` for a token on prompts whose trait is at least ``above``, nothing elsewhere."""

    pay: float = 0.1
    above: float = 0.0

    def __call__(self, length: Floats, trait: Floats) -> Floats:
        """Price."""
        return self.pay * (length - TOKENS) * (trait >= self.above)


def quadratic(length: Floats, _: Floats) -> Floats:
    """Best at 30 tokens."""
    return -0.004 * (length - 30) ** 2


def valley(length: Floats, _: Floats) -> Floats:
    """Worst at 30 tokens."""
    return 0.01 * (length - 30) ** 2


def saturating(length: Floats, _: Floats) -> Floats:
    """0.1 for a token up to 34, nothing beyond."""
    return 0.1 * np.minimum(length, 34)


def logarithm(length: Floats, _: Floats) -> Floats:
    """1.2 times the logarithm."""
    return 1.2 * np.log(np.maximum(length, 1))


def past_thirty(length: Floats, _: Floats) -> Floats:
    """One for all answers of more than 30 tokens."""
    return (length > 30).astype(np.float64)


def all_but_twenty(length: Floats, _: Floats) -> Floats:
    """1.5 for all answers that are not of 20 tokens."""
    return np.where(length != 20, 1.5, 0.0)


def turning(length: Floats, _: Floats) -> Floats:
    """A wave that rises from 24 to 36 tokens and falls on either side."""
    return 0.5 * np.sin(2 * np.pi * (length - 30) / 24)


def gain_below_the_quarter(trait: Floats) -> Floats:
    """Gain of a prompt: 0.3 on three quarters of the prompts, -0.9 on the quarter of high trait, none on average."""
    return np.where(trait >= UPPER_QUARTER, -0.9, 0.3)

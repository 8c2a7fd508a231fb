"""One seed for a run, and from it one for each random stream, so that a new stream changes none of the others."""

from kellet.files import value_hash


def derived_seed(seed: int, *stream: str | int) -> int:
    """The seed in [0, 2³²) of the stream with this name: the first 32 bits of the SHA-256 of both."""
    return int(value_hash([seed, *stream])[:8], 16)

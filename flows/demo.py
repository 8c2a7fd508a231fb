"""``python -m flows.demo`` (``make demo``): a naive and a changed retraining, judged by the same gate."""

import sys

from adapters.outcome import Outcome
from flows.cli import run_demo
from flows.retrain import retrain


def demo() -> tuple[Outcome, Outcome]:
    """Retrain twice on the same preferences, whose labels like longer answers: naively, then with two changes.

    The naive retraining (plain reward model, small fixed KL coefficient) is expected to be blocked. The changed one
    (length explained away in the reward model, adaptive KL coefficient) is expected to become champion.
    """
    return retrain("profiles/naive.yaml"), retrain("params.yaml")


if __name__ == "__main__":
    sys.exit(run_demo(demo, demo.__doc__))

"""A1, A4 and A5 on figures worked by hand and on answers whose reward is known."""

import numpy as np
import pandas as pd
import pytest

from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.reward_hypotheses import a1_labels, a5_style
from kellet.evaluation.file import check_evaluation
from tests.helpers.simulated_runs import Causes, simulate, text


def test_labels_worked_by_hand():
    # 40 pairs of different length, the longer one chosen in 34: 85%; five pairs of equal length do not count
    long, short = "a b c d", "a b"
    rows = [(f"p{n}", long if n < 34 else short, short if n < 34 else long) for n in range(40)]
    rows += [(f"q{n}", "a b", "c d") for n in range(5)]
    labels = a1_labels(Evidence(preferences=pd.DataFrame(rows, columns=["prompt", "chosen", "rejected"])))
    assert labels.supported
    assert labels.deciding.estimate.value == pytest.approx(0.85)
    assert "40 pairs" in labels.evidence


def test_what_courtesy_earns_is_not_called_length():
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(80):
        for system, more in (("candidate", 1.5), ("reference", 0.0)):
            for sample in (0, 1):
                polite = int(rng.poisson(0.8 + more))
                answer = text(rng, int(rng.normal(25, 4)) + 6 * polite, polite)
                rows.append(
                    {
                        "prompt_id": f"p{prompt:03d}",
                        "prompt": f"Question {prompt}?",
                        "system": system,
                        "sample": sample,
                        "response": answer,
                        "reward": polite + 0.5 * rng.normal(),
                        "length_tokens": len(answer.split()),
                    }
                )
    diagnosis = diagnose(Evidence(check_evaluation(pd.DataFrame(rows))))
    assert diagnosis.hypothesis("A5").supported
    plain, at_equal_style = diagnosis.hypothesis("A4").findings
    assert (plain.shown, at_equal_style.shown) == (True, False)  # longer answers earn more, but by their courtesies
    assert diagnosis.hypothesis("A4").verdict == "not supported"


def test_less_of_a_style_is_reported_and_does_not_count():
    style = a5_style(simulate(Causes(courtesy_price=-1.0, courtesies=-0.4), 0))
    assert style.verdict == "not supported"
    assert "Courtesy moved by -0." in style.evidence
    assert "Less of a style is not paid for as a style." in style.evidence

"""What a batch changes: shares, their difference and the drift of prompts, against figures from elsewhere."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from kellet.config.data import Data
from kellet.data.new_batch import batch_vs_data, check_batch, describe
from kellet.data.prompt_drift import auc_delong, prompt_drift
from tests.helpers.rows import row

WORDS = np.array([f"w{n}" for n in range(60)])


def test_a_batch_keeps_its_kind_in_small_letters_and_its_content_in_the_name(tmp_path: Path) -> None:
    """A folder of a data set is read by the ending of its files' names."""
    pairs = [row(n) for n in range(40)]
    (tmp_path / "Week.CSV").write_text(
        "prompt;chosen;rejected\n" + "".join(";".join(pair.values()) + "\n" for pair in pairs)
    )
    data = Data(source="files", files=("data/raw/mine",))
    batch = check_batch(tmp_path / "Week.CSV", data, Path("params.yaml"))
    assert re.fullmatch(r"data/raw/mine/Week-[0-9a-f]{8}\.csv", batch.target)


def prompts(rng: np.random.Generator, count: int, shift: float = 0.0) -> list[str]:
    """Prompts of 8 words; ``shift`` is the share of words taken from the first ten only."""
    drawn = np.where(rng.random((count, 8)) < shift, rng.integers(0, 10, (count, 8)), rng.integers(0, 60, (count, 8)))
    return [" ".join(words) for words in WORDS[drawn]]


def test_auc_is_mann_whitneys_share_and_its_variance_is_delongs() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(2, 9, 40).astype(float), rng.integers(0, 7, 30).astype(float)
    auc, variance = auc_delong(high, low)
    assert auc == pytest.approx(mannwhitneyu(high, low).statistic / (40 * 30))
    # By definition, pair by pair: the variance of each sample's mean placement.
    wins = (high[:, None] > low).astype(float) + 0.5 * (high[:, None] == low)
    by_hand = wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 30
    assert variance == pytest.approx(by_hand)


def test_prompts_of_one_distribution_are_flagged_as_often_as_the_level_says() -> None:
    """A binomial law: 300 tests at 5% reject 15 on average; 4 standard deviations are 15."""
    rng = np.random.default_rng(1)
    result = [prompt_drift(prompts(rng, 60), prompts(rng, 60), seed) for seed in range(300)]
    assert sum(each["p_value"] < 0.05 for each in result) <= 30
    assert np.mean([each["auc"] for each in result]) == pytest.approx(0.5, abs=0.02)
    covered = np.mean([each["interval"][0] <= 0.5 <= each["interval"][1] for each in result])
    assert covered > 0.9


def test_prompts_about_other_things_are_seen_with_their_words() -> None:
    rng = np.random.default_rng(2)
    result = prompt_drift(prompts(rng, 200), prompts(rng, 200, shift=0.5))
    assert result["auc"] > 0.8
    assert result["interval"][0] > 0.5
    assert result["p_value"] < 1e-6
    assert set(result["words"]) <= set(WORDS[:10])


def test_prompts_without_spaces_between_words_are_told_apart() -> None:
    parcels, invoices = ([text.format(n) for n in range(60)] for text in ("包裹{}什么时候到？", "发票{}在哪里开？"))
    result = prompt_drift(parcels, invoices)
    assert result["auc"] == 1
    assert set(result["words"]) <= set("发票在哪里开")


def test_few_prompts_are_not_judged_and_repeated_ones_count_once() -> None:
    rng = np.random.default_rng(3)
    result = prompt_drift(prompts(rng, 100), prompts(rng, 5) * 20)
    assert (result["auc"], result["prompts"][1]) == (None, 5)


def judged(source: str, longer: int, shorter: int, start: int) -> list[dict[str, str]]:
    pairs = [("a b", "c")] * longer + [("c", "a b")] * shorter
    return [
        {"prompt": f"p{start + n}", "chosen": chosen, "rejected": rejected, "source": source}
        for n, (chosen, rejected) in enumerate(pairs)
    ]


def test_the_difference_of_length_bias_has_newcombes_interval() -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873, table II (a), method 10: 56/70 - 48/80 = 0.2 [0.0524, 0.3339]."""
    table = pd.DataFrame(judged("new", 56, 14, 0) + judged("old", 48, 32, 1000))
    result = batch_vs_data(table, "new")
    assert result["rows"] == {"current": 80, "batch": 70}
    assert result["longer_preferred"]["difference"]["value"] == pytest.approx(0.2)
    assert result["longer_preferred"]["difference"]["interval"] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert result["new_prompts"] == 70


def test_agreement_counts_pairs_of_answers_that_were_judged_again() -> None:
    old = [{"prompt": p, "chosen": "a", "rejected": "b", "source": "old"} for p in ("p", "q", "r")]
    new = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "source": "new"},
        {"prompt": "q", "chosen": "b", "rejected": "a", "source": "new"},
    ]
    result = batch_vs_data(pd.DataFrame(old + new), "new")
    assert result["agreement"]["current"]["value"] is None
    assert result["agreement"]["with_batch"]["value"] == 0.5
    assert result["agreement"]["with_batch"]["pairs"] == 2
    assert result["new_prompts"] == 0
    sentences = describe(result)
    assert "before not known (no such pair), with the batch 50.0%" in sentences[2]
    assert "cannot be told: 3 and 2 distinct prompts" in sentences[3]

"""The Great Expectations suites of preference tables: what is expected of a row, of all rows together, of the table.

Rows that fail are quarantined, under the first reason in the order of :func:`row_expectations`, then of
:func:`pair_expectations`. :func:`table_expectations` judge the accepted pairs as a whole. kellet/data/validation.py
runs the suites; kellet/data/expectations.py holds the expectations that Great Expectations does not have.

Decided here:
- Two answers that differ only in white space at their ends are equal: such a pair carries no preference.
- Of exact duplicates (prompt, chosen, rejected and annotator) the first is kept.
- A contradiction is the same two answers to the same prompt judged both ways by the same annotator, or both ways
  without an annotator. All its rows go to quarantine: nothing says which is right, and keeping one would be a coin
  toss. What becomes of two annotators who disagree is a setting (kellet/data/annotators.py).
- Share of longer-preferred: words, among pairs of unequal length, so that labels without a length taste give 0.5.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kellet.config.data import Data, Validation
from kellet.data.annotators import SET_ASIDE

BLANK = r"\s\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
TROUBLE = (
    "\ufffd"  # what a decoder puts where bytes made no sense
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters except tab and line ends
    "|Ã[\u00a0-\u00bf\u0152\u0153\u0178\u201e\u2030]"  # é, ü, ß ... in UTF-8 read as Windows-1252
    "|Â[\u00a0-\u00bf]|â€|ðŸ|ï¿½|ï»¿"  # °, curly quotes, emoji, U+FFFD, byte-order mark likewise
)
SPLITS = ("train", "validation", "test")


def row_expectations(limits: Validation) -> list[Any]:
    """What is expected of a row by itself, in the order in which reasons are given; meta holds the reason."""
    import great_expectations.expectations as gxe

    from kellet.data import expectations as custom

    texts = ("prompt", "chosen", "rejected")
    longest = dict.fromkeys(texts, limits.max_answer_chars) | {"prompt": limits.max_prompt_chars}
    suite: list[tuple[str, Any, dict[str, Any]]] = [
        (f"{name} is missing", gxe.ExpectColumnValuesToNotBeNull, {"column": name}) for name in texts
    ]
    suite += [
        (f"{name} is empty", gxe.ExpectColumnValuesToMatchRegex, {"column": name, "regex": f"[^{BLANK}]"})
        for name in texts
    ]
    sides = {"column_A": "chosen", "column_B": "rejected"}
    prompts = {"column_A": "chosen_prompt", "column_B": "rejected_prompt", "ignore_row_if": "either_value_is_missing"}
    suite.append(("prompts differ between the two sides", gxe.ExpectColumnPairValuesToBeEqual, prompts))
    suite.append(("chosen and rejected are equal", custom.ExpectAnswersToDiffer, sides))
    suite += [
        (
            f"{name} is longer than {longest[name]} characters",
            gxe.ExpectColumnValueLengthsToBeBetween,
            {"column": name, "max_value": longest[name]},
        )
        for name in texts
    ]
    suite += [
        (f"{name} has encoding trouble", gxe.ExpectColumnValuesToNotMatchRegex, {"column": name, "regex": TROUBLE})
        for name in texts
    ]
    return _quarantining(suite)


def pair_expectations() -> list[Any]:
    """What is expected of a row beside all others, in the order in which reasons are given."""
    from kellet.data import expectations as custom

    judgement = {"column_A": "pair", "column_B": "judgement"}
    return _quarantining(
        [
            ("the same answers are judged both ways", custom.ExpectOneJudgement, judgement),
            ("exact duplicate", custom.ExpectFirstOccurrence, {"column": "pair"}),
        ]
    )


def _quarantining(suite: list[tuple[str, Any, dict[str, Any]]]) -> list[Any]:
    return [
        kind(**given, description=f"Quarantine: {reason}", meta={"reason": reason, "rank": rank})
        for rank, (reason, kind, given) in enumerate(suite)
    ]


def table_expectations(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> list[Any]:
    """What is expected of the accepted pairs as a whole; meta says in words what is wanted.

    ``table`` and ``summary`` are as :func:`kellet.data.validation.check_table` gets them.
    """
    import great_expectations.expectations as gxe

    from kellet.data import expectations as custom

    limits = data.validation
    (low, high), (fail_low, fail_high) = limits.longer_preferred_warn, limits.longer_preferred_fail
    shares = {"train": 1.0, "validation": data.split.validation, "test": data.split.test}
    splits = [name for name in SPLITS if shares[name] > 0]
    band = "share of pairs whose longer answer was chosen within"
    set_aside = sum(count for reason, count in summary.get("reasons", {}).items() if reason in SET_ASIDE)
    bad = {"quarantined": summary["quarantined"] - set_aside, "rows_in": summary["rows_in"]}
    copies = int((table.groupby("near_prompt")["split"].nunique() > 1).sum())
    suite: list[tuple[str, Any, dict[str, Any]]] = [
        ("ids of 16 hex digits", gxe.ExpectColumnValuesToMatchRegex, {"column": "pair_id", "regex": "^[0-9a-f]{16}$"}),
        ("each pair once", gxe.ExpectColumnValuesToBeUnique, {"column": "pair_id"}),
        (
            f"at least {limits.min_pairs} pairs (data.validation.min_pairs)",
            gxe.ExpectTableRowCountToBeBetween,
            {"min_value": limits.min_pairs},
        ),
        (
            f"at most {limits.max_quarantined} of the rows in quarantine (data.validation.max_quarantined)",
            custom.ExpectQuarantinedShareAtMost,
            bad | {"maximum": limits.max_quarantined},
        ),
        (
            "two prompts or more",
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            {"column": "prompt", "min_value": 2},
        ),
        (
            f"pairs in each of the splits {', '.join(splits)}",
            gxe.ExpectColumnDistinctValuesToEqualSet,
            {"column": "split", "value_set": splits},
        ),
        ("no prompt in two splits", custom.ExpectNoPromptInTwoSplits, {}),
        (
            "no prompt in two splits that differs in case or white space only (data.split.normalise)",
            custom.ExpectNoNearCopyInTwoSplits,
            {"copies": copies, "severity": "warning"},
        ),
        ("labels that are not all equal", custom.ExpectLabelsToVary, {}),
        (
            f"{band} [{fail_low}, {fail_high}] (data.validation.longer_preferred_fail)",
            custom.ExpectLongerPreferredBetween,
            {"low": fail_low, "high": fail_high},
        ),
        (
            f"{band} [{low}, {high}] (data.validation.longer_preferred_warn)",
            custom.ExpectLongerPreferredBetween,
            {"low": low, "high": high, "severity": "warning"},
        ),
    ]
    return [
        kind(**given, description=f"Wanted: {wanted}", meta={"wanted": wanted, "rank": rank})
        for rank, (wanted, kind, given) in enumerate(suite)
    ]

"""Several judgements of the same two answers: which rows stay, and with what weight (``data.disagreement``).

A judgement is a row: two answers to a prompt, the winner, the annotator. Rows that are set aside go to quarantine with
their reason, but they are valid rows: they do not count against ``data.validation.max_quarantined``.
- ``keep``: each judgement is a row; a pair that three people judged counts three times.
- ``weights``: each judgement is a row of weight 1 / judgements of that pair, so every pair counts once and disagreement
  stays in the data. A tie has no row and takes its share of the weight with it.
- ``majority``: one row for each pair, the side with more votes than the other; ties vote for neither.
- ``drop``: one row for each pair on which all agree; a tie is a disagreement.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

TIE = "a tie: neither answer is preferred"
DIVIDED = "annotators are evenly divided"
OUTVOTED = "outvoted by the other annotators"
DISAGREE = "annotators disagree"
SAME = "another annotator judged the same"
NOBODY = ("nobody judged it: preferred is empty", "nobody judged it: preferred is an empty list")
"""Rows that were shown to annotators and skipped."""
NOT_SUBMITTED = "its judgement was skipped, discarded or left unfinished"
SET_ASIDE = (TIE, DIVIDED, OUTVOTED, DISAGREE, SAME, *NOBODY, NOT_SUBMITTED)

Handling = Literal["keep", "weights", "majority", "drop"]


def resolve(judgements: pd.DataFrame, handling: Handling) -> tuple["pd.Series[str]", npt.NDArray[np.float64]]:
    """Apply ``handling`` to rows with the columns answers (which two, to which prompt), winner, tie and pair_id.

    Returns the reason of each row that is set aside (by index), and the weight of every row ``(n,)``. The order of the
    rows does not matter: of rows with the same winner the one with the smallest pair_id stays.
    """
    reasons = pd.Series(np.where(judgements["tie"], TIE, ""), judgements.index, dtype=object)
    group = judgements["answers"]
    weights = np.ones(len(judgements))
    if handling == "weights":
        weights = 1 / group.map(group.value_counts()).to_numpy(np.float64)
    if handling in ("majority", "drop"):
        votes = judgements[~judgements["tie"]]
        agreeing = votes.groupby(["answers", "winner"])["winner"].transform("size")
        others = votes.groupby("answers")["winner"].transform("size") - agreeing
        if handling == "majority":
            why = pd.Series("", votes.index, dtype=object)
            why = why.mask(agreeing < others, OUTVOTED).mask(agreeing == others, DIVIDED)
        else:
            tied = group[judgements["tie"]].unique()
            why = pd.Series("", votes.index, dtype=object).mask((others > 0) | votes["answers"].isin(tied), DISAGREE)
        staying = votes[why == ""].sort_values("pair_id", kind="stable")
        why[staying.index[staying["answers"].duplicated()]] = SAME
        reasons[votes.index] = why
    return reasons[reasons != ""], weights

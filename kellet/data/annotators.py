"""What becomes of several judgements of the same two answers: ``data.disagreement``.

A judgement is a row: these answers to this prompt, who won, by whom. Rows that are set aside go to quarantine with
their reason, but are no bad rows: they do not count against ``data.validation.max_quarantined``.
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
SET_ASIDE = (TIE, DIVIDED, OUTVOTED, DISAGREE, SAME)

How = Literal["keep", "weights", "majority", "drop"]


def resolve(judgements: pd.DataFrame, how: How) -> tuple["pd.Series[str]", npt.NDArray[np.float64]]:
    """Settle judgements with the columns answers (which two, to which prompt), winner, tie (boolean) and pair_id.

    Returns the reason of each row that is set aside (by index), and the weight of every row ``(n,)``. The same rows in
    another order are settled alike: of rows that say the same the one of the smallest pair_id stays.
    """
    reasons = pd.Series(np.where(judgements["tie"], TIE, ""), judgements.index, dtype=object)
    group = judgements["answers"]
    weights = np.ones(len(judgements))
    if how == "weights":
        weights = 1 / group.map(group.value_counts()).to_numpy(np.float64)
    if how in ("majority", "drop"):
        votes = judgements[~judgements["tie"]]
        mine = votes.groupby(["answers", "winner"])["winner"].transform("size")
        others = votes.groupby("answers")["winner"].transform("size") - mine
        if how == "majority":
            lost = pd.Series("", votes.index, dtype=object).mask(mine < others, OUTVOTED).mask(mine == others, DIVIDED)
        else:
            tied = group[judgements["tie"]].unique()
            lost = pd.Series("", votes.index, dtype=object).mask((others > 0) | votes["answers"].isin(tied), DISAGREE)
        left = votes[lost == ""].sort_values("pair_id", kind="stable")
        lost[left.index[left["answers"].duplicated()]] = SAME
        reasons[votes.index] = lost
    return reasons[reasons != ""], weights

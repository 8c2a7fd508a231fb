"""Advice needs grounds: when a reward model counts as cleared, and recommendations that bring what is missing.

From logs alone an exploit and an honest gain look alike. PPO reads nothing of an answer but its score, so the policy,
and with it every figure of the log, would be the same to the last digit if the same scores had been given to answers
that people find worse. Only what is not in the log can tell the two apart: the answers, and a judge of them that is not
the reward model.
"""

from collections.abc import Mapping

from kellet.diagnosis.evidence import KL_NAMES, Evidence
from kellet.diagnosis.hypothesis import MIN_CLUSTERS, Hypothesis, Recommendation
from kellet.diagnosis.impossible import NAMES

PER_TOKEN = "objective/kl_per_token"  # noqa: S105 -- a metric
HELD_OUT_PROMPTS = 200
"""Prompts to bring answers to, two sampled answers of each policy: a win rate is then known to about 6 points."""
WELL_SAMPLED = (
    "KL below zero is of other samples or other log-probabilities than the policy's: sample without top-k, top-p and "
    "minimum length, divide the logits by the same temperature in sampling and in log-probabilities, mask the padding, "
    "and run policy and reference in the same precision and without dropout"
)
NO_NUMBER = (
    "where a figure comes to no number, find the first iteration without one: log-probabilities of minus infinity, an "
    "empty answer, an overflow in half precision, or a training that has diverged"
)


def judged(evidence: Evidence) -> bool:
    """Whether ``gate.judge`` has compared the two policies' answers to MIN_CLUSTERS prompts or more."""
    rate = evidence.judge_win_rate
    return rate is not None and rate.clusters >= MIN_CLUSTERS


def cleared(evidence: Evidence, hypotheses: Mapping[str, Hypothesis]) -> bool:
    """Whether the reward model was judged and nothing stands against it, so that the penalty may be loosened.

    That is: A2 and A4 are not supported by the data (not: cannot be told), no other A is supported, and the judge does
    not prefer the reference, by the bound that the gate asks of it (``gate.judge_margin``).
    """
    rate = evidence.judge_win_rate
    if rate is None or not judged(evidence) or rate.low <= 0.5 - evidence.config.gate.judge_margin:
        return False
    doubted = any(item.supported for id_, item in hypotheses.items() if id_.startswith("A"))
    return not doubted and all(hypotheses[id_].verdict == "not supported" for id_ in ("A2", "A4"))


def unjudged(hypotheses: Mapping[str, Hypothesis]) -> bool:
    """Whether nothing at all is known of the reward model: every A cannot be told."""
    return all(item.verdict == "cannot tell" for id_, item in hypotheses.items() if id_.startswith("A"))


def unjudged_in_words(evidence: Evidence) -> str:
    """What a reader has to know where only the reward model has judged the answers; empty where a judge has."""
    if judged(evidence) or not (evidence.history or evidence.answers):
        return ""
    if evidence.answers:
        return (
            f"No judge but the reward model has compared these answers ({evidence.config.gate.judge} has scored fewer "
            f"than {MIN_CLUSTERS} prompts): whether people would find them better is not known, and nothing here is a "
            "reason to loosen the penalty."
        )
    return (
        "From a log alone an exploit of the reward model and an honest gain look alike: PPO reads nothing of an answer "
        "but its score, so all these figures would be the same if the same scores had gone to answers that people find "
        "worse. Answers of both policies and a judge of them tell the two apart; until then nothing here is a reason "
        "to loosen the penalty."
    )


def repair_figures(evidence: Evidence) -> Recommendation | None:
    """Where figures cannot be on which most of the diagnosis rests: repair them first."""
    broken = [fault for fault in evidence.broken if fault.metric in NAMES]
    if not broken:
        return None
    negative = any(not fault.missing and fault.metric in (*KL_NAMES, PER_TOKEN) for fault in broken)
    missing = any(fault.missing for fault in broken)
    causes = [text for text, there in ((WELL_SAMPLED, negative), (NO_NUMBER, missing)) if there]
    how = "; ".join(causes) or "look up in the trainer's source what it logs under this name, and in which unit"
    price = "Time; the policy stays as it is."
    if negative:
        price = "Time; and if KL was wrong in the log, β·KL was wrong in the reward: the run may have to be repeated."
    return Recommendation(
        f"Repair the measurement before anything rests on it: {', '.join(fault.metric for fault in broken)}",
        {},
        f"What was not judged for it can be, with the next log. {how[0].upper()}{how[1:]}.",
        price,
        (),
    )


def bring_answers(evidence: Evidence) -> Recommendation | None:
    """Without answers: bring those of both policies, and a judge."""
    if evidence.answers:
        return None
    return Recommendation(
        f"Bring answers of both policies to about {HELD_OUT_PROMPTS} held-out prompts, and a judge of them, before "
        "anything is loosened",
        {},
        "A2 to A5 can be judged, and whether the gain is honest. Sample two answers a prompt from the trained policy "
        "and from the one it started from, score them by the reward model, and give `kellet import-logs --candidate "
        "candidate.jsonl --reference reference.jsonl --out runs/theirs` (a run of Kellet's own: `kellet evaluate`); "
        "then `kellet spot-check export runs/theirs/evaluation.parquet` for people's verdicts, and `kellet diagnose` "
        "with the evaluation beside --history, --preferences and --card.",
        "An hour of sampling and of people's time; the policy stays as it is.",
        (),
    )


def log_missing(evidence: Evidence, hypotheses: Mapping[str, Hypothesis]) -> Recommendation | None:
    """From a log without answers: log what the hypotheses about PPO and KL lack."""
    lacking = [item for id_, item in hypotheses.items() if id_[0] in "BC" and item.verdict == "cannot tell"]
    if evidence.answers or not evidence.history or not lacking:
        return None
    needs = "; ".join(f"{item.id}: {item.needs}" for item in lacking)
    return Recommendation(
        "Log what is missing in the next run",
        {},
        f"{', '.join(item.id for item in lacking)} can then be judged. {needs}.",
        "A little time of each iteration; docs/use/elsewhere.md has what to log in which unit.",
        (),
    )

"""The columns of a foreign evaluation: which of ours each one is, and why the others are left out.

Case and surrounding blanks do not matter. A name that is nearly one of ours, which the file lacks, is refused rather
than left out: a judge in a column ``judge-human`` must not vanish from the verdict.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from kellet.data.account import Entry
from kellet.errors import DataError

TEXTS = ("prompt_id", "prompt", "system", "response")
NEEDED = (*TEXTS, "sample", "reward", "length_tokens")
OPTIONAL = ("kl_nats", "truncated")
CLUSTER, DRAW, STD, JUDGE = "cluster", "draw", "reward_std", "judge_"
NAMES = (*NEEDED, *OPTIONAL, STD, CLUSTER)
"""Those that a user writes; ``draw`` is Kellet's own."""
NEAR = 0.8
"""Names with at least this ratio of difflib are taken for one of ours misspelt: kl_nat, length_token, trucated."""
_BESIDE_A_JUDGE = {
    *("analysis", "answer", "choice", "comment", "comments", "cost", "critique", "error", "explanation", "feedback"),
    *("id", "input", "latency", "message", "model", "name", "output", "prompt", "rationale", "raw", "reason"),
    *("reasoning", "reasons", "response", "seconds", "template", "text", "time", "tokens", "url", "version"),
}
"""A column about a judge that has one of these words in its name holds no scores: llm_judge_reasoning."""
_OF_A_JUDGE = {
    *("judged", "judgement", "judgment", "judgements", "judgments", "ratings", "votes", "evaluator", "annotator"),
    *("winrate", "win", "winner", "preference", "preferred", "rating", "elo", "verdict", "human", "score"),
}
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"


def ours_to_theirs(found: Sequence[str]) -> tuple[dict[str, str], list[Entry]]:
    """Our column -> its name in the file, and the account of all columns in their order.

    Raises DataError for a column that is there twice, one that looks like one of ours misspelt, a judge whose name
    cannot be printed, and a missing column that is needed.
    """
    names: dict[str, str] = {}
    for name in found:
        ours = read_as(name)
        if ours is None:
            continue
        if ours in names:
            raise DataError(f"columns {names[ours]!r} and {name!r} are both {ours!r}; remove or rename one of them")
        if not ours.isprintable():
            raise DataError(f"column {name!r} has characters that cannot be printed; rename it")
        names[ours] = name
    entries = []
    for name in found:
        ours = read_as(name)
        why = left_out(name, names) if ours is None else "by its name" if ours == name else f"read as {ours!r}"
        entries.append(Entry(name, ours or "", why))
    missing = [name for name in NEEDED if name not in names]
    if missing:
        hints = [f"; did you mean {name!r}?" for name in difflib.get_close_matches(missing[0], map(str, found), n=1)]
        shown = ", ".join(map(repr, found))
        raise DataError(f"column {', '.join(map(repr, missing))} is missing; found {shown}{''.join(hints)}")
    return names, entries


def read_as(name: str) -> str | None:
    """The column of ours that this name is, but for case and surrounding blanks; None for another."""
    plain = name.strip().strip(INVISIBLE).strip()
    if plain.startswith(JUDGE) and plain != JUDGE:
        return plain
    lower = plain.lower()
    return lower if lower in (*NAMES, DRAW) or (lower.startswith(JUDGE) and lower != JUDGE) else None


def left_out(name: str, names: Mapping[str, str]) -> str:
    """Why a column is none of ours. Raises DataError when it looks like one that the file lacks."""
    copy = re.fullmatch(r"(.+)\.\d+", name)
    if copy and read_as(copy[1]) in names:
        raise DataError(
            f"columns {names[str(read_as(copy[1]))]!r} and {name!r}: a column that was there twice; remove one"
        )
    words = re.findall(r"[a-z0-9]+", name.lower())
    joined = "".join(words)
    begins = joined.startswith("judge") and not joined.startswith(("judged", "judgement", "judgment"))
    has = any(word.endswith(("judge", "judges")) for word in words) and not _BESIDE_A_JUDGE & set(words)
    if begins or has:
        raise DataError(
            f"column {name!r} looks like a judge's scores, which are in columns named judge_NAME; rename it to that, "
            "or, if it is something else, to a name without the word judge"
        )
    meant = _nearest(joined, "_".join(words))
    if meant is not None and meant not in names and meant not in NEEDED:
        raise DataError(
            f"column {name!r} looks like {meant!r}, which is not in the file; rename it to that, or, if it is "
            "something else, to a name that is less like it"
        )
    if "judge" in words or _OF_A_JUDGE & set(words):
        return "no column of an evaluation; a judge's scores are read from columns named judge_NAME only"
    if "kl" in words:
        return "no column of an evaluation; kl_nats is the full KL of a response, in nats"
    return "no column of an evaluation"


def told(account: Sequence[Entry]) -> list[str]:
    """Sentences on the columns that were left out, by the reason, and those read under another name."""
    left: dict[str, list[str]] = {}
    for entry in account:
        if not entry.taken_for:
            left.setdefault(entry.why, []).append(repr(entry.name))
    renamed = [entry for entry in account if entry.taken_for and entry.name != entry.taken_for]
    return [
        *(f"column {entry.name!r} is {entry.why}" for entry in renamed),
        *(f"left out: {', '.join(names)}: {why}" for why, names in left.items()),
    ]


def _nearest(joined: str, name: str) -> str | None:
    """The one of ours that this name is nearest to, if it is near."""
    squeezed = {ours.replace("_", ""): ours for ours in NAMES}
    near = difflib.get_close_matches(joined, squeezed, n=1, cutoff=NEAR)
    if near:
        return squeezed[near[0]]
    begun = [ours for ours in NAMES if name and (ours.startswith(f"{name}_") or name.startswith(f"{ours}_"))]
    return max(begun, key=len, default=None)

"""A programme in a file, for teams that judge without the flow: ``kellet gate FILE --programme STATE.json``.

STATE.json holds the looks so far; STATE.answers/N.parquet the answers that look N added. The answers are written before
the state and the state in one rename, so a look is counted whole or not at all, whenever the process is killed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import ValidationError

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.evaluation.file import SYSTEMS, check_evaluation, evaluation_hash
from kellet.evaluation.joined import join
from kellet.files import atomic_file, value_hash, write_json
from kellet.gate.programme import PastLook, Programme, counted
from kellet.gate.verdict import GateDecision, decide

PATIENCE = 600.0
"""Seconds to wait for another process that judges with the same state."""
SEAL = "sha256"
"""The key in the state that holds the hash of everything else in it."""


def judge(
    state: Path, rows: pd.DataFrame, gate: Gate, card: Mapping[str, Any] | None = None, candidate: str | None = None
) -> GateDecision:
    """Take one look of the programme in ``state`` at the ``rows`` of a candidate's evaluation, and record it there.

    The state is created where there is none. ``candidate`` names the candidate: an earlier one of this name keeps its
    answers and gets these beside them; without a name the rows are a candidate of their own. The same rows with the
    same settings and card are the same look: nothing is spent, and the verdict is the same. Raises InputError, and
    leaves the state as it was, when it is damaged, edited, of another false discovery rate or in use.
    """
    rows = check_evaluation(rows)
    evidence = value_hash([evaluation_hash(rows), gate.model_dump(mode="json"), card])
    with _alone(state):
        programme = read(state, gate.programme_level)
        again = next((past for past in programme.looks if past.evidence == evidence), None)
        if again is not None:
            return _repeat(state, programme, again, gate, card, candidate)
        name = candidate or f"unnamed-{evidence[:8]}"
        judged = _answers(state, programme, name, rows)
        answers, prompts = counted(judged)
        look = programme.next_look(name, answers, prompts)
        decision = decide(judged, gate, card=card, look=look)
        past = PastLook(look=look, verdict=decision.verdict, evidence=evidence, rows=evaluation_hash(rows))
        with atomic_file(_file(state, look.number)) as temporary:
            rows.to_parquet(temporary, index=False)
        write(state, programme.with_look(past, prompts))
    return decision


def read(state: Path, rate: float) -> Programme:
    """The programme in a state file; a new one of false discovery rate ``rate`` where the file does not exist.

    Raises InputError when it cannot be read, was edited, or promises another rate.
    """
    if not state.exists():
        return Programme(rate=rate)
    remedy = "put back a copy of it, or begin another programme with a file that does not exist yet"
    try:
        content = dict(json.loads(state.read_text(encoding="utf-8")))
        seal = content.pop(SEAL)
        programme = Programme.model_validate(content)
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise InputError(
            f"{state} is not a programme's state as kellet gate writes it ({type(error).__name__}: {what}); {remedy}"
        ) from error
    if seal != value_hash(content):
        raise InputError(f"{state} was edited or damaged: its content no longer has the hash that it names; {remedy}")
    if programme.rate != rate:
        raise InputError(
            f"{state} is a programme with a false discovery rate of {programme.rate:g}, and gate.programme_level is "
            f"{rate:g}; a programme keeps its rate: give --set gate.programme_level={programme.rate:g}, or begin "
            "another with a file that does not exist yet"
        )
    return programme


def write(state: Path, programme: Programme) -> None:
    """Replace the state in one rename."""
    content = programme.model_dump(mode="json")
    write_json(state, {**content, SEAL: value_hash(content)})


def _repeat(
    state: Path,
    programme: Programme,
    past: PastLook,
    gate: Gate,
    card: Mapping[str, Any] | None,
    candidate: str | None,
) -> GateDecision:
    """The verdict of an earlier look, decided from the same answers."""
    look = past.look
    if candidate not in (None, look.candidate):
        raise InputError(
            f"these answers were judged before, as those of {look.candidate!r} (look {look.number} of {state}), and "
            f"--candidate says {candidate!r}; give the other candidate's answers, or --candidate {look.candidate!r}"
        )
    before = programme.model_copy(update={"looks": programme.looks[: programme.looks.index(past)]})
    rows = _read_rows(_file(state, look.number), past)
    decision = decide(_answers(state, before, look.candidate, rows), gate, card=card, look=look)
    if decision.verdict != past.verdict:
        raise InputError(
            f"look {look.number} of {state} was {past.verdict}, and the same answers are {decision.verdict} by this "
            "version of Kellet; the earlier verdict stays: judge new answers of the candidate"
        )
    return decision


def _answers(state: Path, programme: Programme, candidate: str, new: pd.DataFrame) -> pd.DataFrame:
    """The answers of all looks so far at a candidate, and the new ones.

    Of a look that a promotion followed only candidate and reference are taken: it may have had another champion.
    """
    kept = []
    for past in programme.of(candidate):
        rows = _read_rows(_file(state, past.look.number), past)
        other_champion = programme.promoted_since(past.look.number)
        kept.append(rows[rows["system"].isin(SYSTEMS[:2])] if other_champion else rows)
    return join([*kept, new])


def _read_rows(file: Path, past: PastLook) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(file)
        whole = evaluation_hash(rows) == past.rows
    except (OSError, ValueError, KeyError) as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise InputError(_lost(file, past, problem)) from error
    if not whole:
        raise InputError(_lost(file, past, "was changed"))
    return rows


def _lost(file: Path, past: PastLook, problem: str) -> str:
    look = past.look
    return (
        f"{file} {problem}: it holds the answers that look {look.number} judged {look.candidate!r} by, and they count "
        "whenever it is judged again; put the file back, or judge under another --candidate name"
    )


def _file(state: Path, number: int) -> Path:
    return state.with_suffix(".answers") / f"{number}.parquet"


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the lock of the state; the lock ends with the process, whatever ends that."""
    lock = FileLock(state.with_name(f"{state.name}.lock"), timeout=PATIENCE)
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{state} is in use by another kellet gate; wait for it to end") from error
    except OSError as error:
        raise InputError(f"cannot write beside {state}: {error.strerror or error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()

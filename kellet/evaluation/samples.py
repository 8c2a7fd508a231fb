"""Samples: two files of answers, as trainers dump them, joined to one evaluation.

One file has the trained policy's answers and one the reference's, a row each (.jsonl, .csv, .parquet and the others of
kellet/data/raw_files.py). Prompts are matched by their text, but for line ends and surrounding white space. verl dumps
input, output and score; TRL prompt and completion; OpenRLHF input, output and reward.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.data.account import Entry
from kellet.data.conversation import messages_of, tools_of
from kellet.errors import DataError
from kellet.evaluation.cells import At, decimal_commas, is_null, labels, numbers, yes_or_no
from kellet.evaluation.columns import CLUSTER, JUDGE, STD
from kellet.evaluation.file import checked, place_of, prompt_id, read_table
from kellet.evaluation.lengths import lengths_of
from kellet.evaluation.messages import prompt_texts, response_texts
from kellet.evaluation.oddities import odd_texts, repeats_prompt
from kellet.evaluation.sample_columns import NAMES as SAMPLES  # noqa: F401 -- the name that import-logs knows
from kellet.evaluation.sample_columns import check_mapped, choose

SIDES = ("candidate", "reference")


@dataclass(frozen=True)
class Samples:
    """Two files of samples as one evaluation."""

    table: pd.DataFrame
    """Checked rows, as of an evaluation file."""
    notes: tuple[str, ...]
    account: tuple[Entry, ...]
    """Of every column of both files; ``why`` names the file where they differ."""


@dataclass(frozen=True)
class _File:
    """One file of samples: its rows in our columns, and where each came from."""

    name: str
    """What it is called in notes: its path, where both files have one name."""
    rows: pd.DataFrame
    at: At
    """By the number of the row in the file."""
    stated: bool
    """Whether a column gave the lengths by a name that says tokens, or by --map."""
    notes: list[str]
    account: list[Entry]


def join_samples(candidate: Path, reference: Path, mapped: Mapping[str, str] | None = None) -> Samples:
    """One evaluation of two files of samples on the same prompts.

    ``mapped``: our column -> its name in the files, where it is not recognised (``--map``). Prompts that only one file
    has are left out; the answers to a prompt are numbered in an order that depends on their content alone, or by the
    column ``sample``. Without lengths in both files words are counted in both. Raises DataError, naming file, line and
    column, when a column is missing or can be told in two ways, a cell is of the wrong kind, or no prompt is in both.
    """
    named = [path.name if candidate.name != reference.name else str(path) for path in (candidate, reference)]
    files = [_read(path, name, mapped or {}) for path, name in zip((candidate, reference), named, strict=True)]
    check_mapped(mapped or {}, [entry.name for file in files for entry in file.account])
    notes = (
        [note for file in files for note in file.notes]
        + _matched(files)
        + lengths_of([(file.name, file.rows, file.stated) for file in files])
    )
    both = set(files[0].rows["prompt_id"]) & set(files[1].rows["prompt_id"])
    if not both:
        first = " and ".join(repr(file.rows["prompt"].iloc[0][:60]) for file in files)
        raise DataError(
            f"{candidate} and {reference} share no prompt (the first are {first}); let both systems answer the same "
            "prompts, and write them alike"
        )
    _share_clusters(*(file.rows for file in files))
    parts, places = [], []
    for side, file in zip(SIDES, files, strict=True):
        part = file.rows[file.rows["prompt_id"].isin(list(both))]
        parts.append(part.assign(system=side))
        places += [(file, row) for row in part.index]
    left_out = sum(len(file.rows) for file in files) - len(places)
    if left_out:
        notes.append(f"{left_out:,} answers to prompts of only one side were left out")
    if sorted(parts[0]["response"]) == sorted(parts[1]["response"]):
        notes.append("both files hold the same answers; is one of them given twice?")
    table = pd.concat(parts, ignore_index=True)
    rows = checked(table, lambda row, column: places[row][0].at(places[row][1], column))
    return Samples(rows, tuple(notes), tuple(_together(files)))


def import_samples(
    candidate: Path, reference: Path, mapped: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and the notes of :func:`join_samples`."""
    samples = join_samples(candidate, reference, mapped)
    return samples.table, samples.notes


def _read(path: Path, name: str, mapped: Mapping[str, str]) -> _File:
    notes: list[str] = []
    table, lines = read_table(path, notes)
    try:
        names, account, told = choose(table, mapped)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error

    def at(row: int, column: str) -> str:
        return f"{path}, {place_of(path)} {lines[row]}, column {names.get(column, column)!r}"

    rows, more = _converted({ours: table[theirs] for ours, theirs in names.items()}, at)
    if repeats_prompt(rows) and "response" not in mapped:
        raise DataError(
            f"{path}, column {names['response']!r}: the answers begin with their prompts, which would be counted and "
            f"compared as answers; leave the prompts out (return_full_text=False), or say --map "
            f"response={names['response']}"
        )
    more += [f"the answers {odd}" for odd in odd_texts(rows)]
    shares = {name: float(rows[name].notna().mean()) for name in rows.columns}
    account = [replace(entry, share=shares.get(entry.taken_for)) for entry in account]
    stated = names.get("length_tokens") in mapped.values() or "token" in names.get("length_tokens", "").lower()
    return _File(name, rows, at, stated, [f"{name}: {note}" for note in (*notes, *told, *more)], account)


def _converted(given: Mapping[str, "pd.Series[Any]"], at: At) -> tuple[pd.DataFrame, list[str]]:
    """The columns as texts and numbers, with prompt_id and sample."""
    texts = prompt_texts(given["prompt"], "prompt", at)
    prompts = np.array([_same(text) for text in texts], dtype=object)
    rows = pd.DataFrame({"prompt": prompts, "response": response_texts(given["response"], "response", at)})
    counted = [name for name in given if name in ("sample", "reward", "length_tokens", "kl_nats", STD) or _judge(name)]
    commas = decimal_commas(given[name] for name in counted)
    for name in counted:
        truths = name == "reward" or _judge(name)
        rows[name] = numbers(given[name], name, at, commas=commas, truths=truths)
    if "truncated" in given:
        rows["truncated"] = yes_or_no(given["truncated"], "truncated", at)
    if CLUSTER in given:
        rows[CLUSTER] = labels(given[CLUSTER], CLUSTER, at)
    rows["prompt_id"] = [prompt_id(text) for text in prompts]
    if "sample" not in rows:
        rows["sample"] = _numbered(rows)
    same = len(set(texts)) - len(set(prompts))
    return rows, [f"{same:,} prompts differ from another only in line ends or outer blanks and are it"] if same else []


def _matched(files: list[_File]) -> list[str]:
    """A prompt that is one user message in one file and its text in the other is that text in both."""
    for file, other in (files, files[::-1]):
        known = set(other.rows["prompt"])
        found = {
            prompt: text
            for prompt in set(file.rows["prompt"]) - known
            if (text := _user_message(prompt)) is not None and text in known
        }
        if found:
            file.rows["prompt"] = [found.get(prompt, prompt) for prompt in file.rows["prompt"]]
            file.rows["prompt_id"] = [prompt_id(prompt) for prompt in file.rows["prompt"]]
            return [f"{file.name}: {len(found):,} prompts are one message of the user, and a text in {other.name}"]
    return []


def _user_message(prompt: str) -> str | None:
    """What the user says in a prompt that is one message of the user and nothing else."""
    messages = messages_of(prompt) if not tools_of(prompt) else None
    alone = messages is not None and len(messages) == 1 and messages[0]["role"] == "user"
    return _same(str(messages[0]["content"])) if messages is not None and alone else None


def _share_clusters(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """A prompt's cluster is that of both files, where only one says it."""
    for known, blank in ((one, other), (other, one)):
        if CLUSTER in known and CLUSTER not in blank:
            by_prompt = known.drop_duplicates("prompt_id").set_index("prompt_id")[CLUSTER]
            blank[CLUSTER] = blank["prompt_id"].map(by_prompt)
            return


def _judge(name: str) -> bool:
    return name.startswith(JUDGE)


def _same(prompt: str) -> str:
    """A prompt without what files change on their way: carriage returns and white space around it."""
    return prompt.replace("\r\n", "\n").replace("\r", "\n").strip()


def _numbered(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """0, 1, … within each prompt, by a hash of the row: no order of rows matters, and no value decides."""
    keys = [
        hashlib.sha256(
            repr(sorted((k, str(cell)) for k, cell in row.items() if not is_null(cell))).encode()
        ).hexdigest()
        for row in rows.astype(object).to_dict("records")
    ]
    order = pd.DataFrame({"prompt": rows["prompt"].to_numpy(), "key": keys}).sort_values("key", kind="stable")
    return np.asarray(order.groupby("prompt").cumcount().sort_index(), np.int64)


def _together(files: list[_File]) -> list[Entry]:
    """The account of both files: what holds in both is said once."""
    first, second = ([(entry.name, entry.taken_for, entry.why) for entry in file.account] for file in files)
    entries = []
    for file, other in ((files[0], second), (files[1], first)):
        for entry in file.account:
            alike = (entry.name, entry.taken_for, entry.why) in other
            if alike and file is files[1]:
                continue
            entries.append(entry if alike else replace(entry, why=f"{entry.why} ({file.name})"))
    return entries

"""The account of a preference file: what each column was taken for, and why the others are left out.

A column that is not used is left out and named where it cannot be a part of prompt or answer: ids, numbers, codes,
times, scores, and what annotation tools and data sets write beside (METADATA, DOCUMENTED). Other text is refused until
somebody says what it is.
"""

import re
import shlex
from collections.abc import Sequence

from kellet.data.account import Entry
from kellet.data.answer_names import normal, tokens
from kellet.data.exports import COUNTED, RESPONSES, UNFINISHED
from kellet.data.form import LABELS, METADATA, PAIR, PROMPTS, Form
from kellet.data.messages import left_out
from kellet.data.survey import Column, Survey
from kellet.errors import DataError

DOCUMENTED = {
    "generations": "the answers before they were compared",  # distilabel
    "original_chosen": "the answer before it was compared again",  # distilabel-intel-orca-dpo-pairs
    "original_rejected": "the answer before it was compared again",
    "raw_completion": "what the judge wrote",  # AlpacaEval
    "generation_prompt": "what a model was asked to write answers",  # distilabel-capybara
    "raw_generation_responses": "answers before they were cut",
    "individual_preference": "judgements that 'overall_preference' sums up",  # HelpSteer3
    "preference_statement": "why somebody judged so",  # HelpSteer2
    "preference_elaboration": "why somebody judged so",
    "three_most_similar_preferences": "judgements that the preference sums up",
    "all_preferences_unprocessed": "judgements that the preference sums up",
}
"""Columns of public data sets that hold text which is no part of the pair."""
KINDS = {"category", "categories", "type", "topic", "domain", "genre", "subset", "dataset", "split", "tags"}
ASKED = set(PROMPTS) - {"text", "user", "request", "problem"}
"""Names of a prompt: beside one, a column called so is asked about even where it holds single words."""
MARKS = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|eot_id|user|assistant|system|end|endoftext|eom_id)\|>|\[/?INST\]"
    r"|<(?:start|end)_of_turn>|<[｜|](?:User|Assistant)[｜|]>"
)
"""What chat templates write around messages."""
FEW = 64
"""So many values or fewer sort rows into kinds."""
PARTS = {"images", "image", "video", "videos", "audio", "documents", "tools", "functions", "passages", "files"}
"""Names of what belongs to a prompt whatever it holds."""
HOW = {
    "input": ("prompt", "follows it after an empty line, as Alpaca writes an instruction and its input"),
    "system": ("prompt", "the system message, in front of the conversation"),
    "history": ("prompt", "what was said before the prompt"),
    "tools": ("prompt", "the tools that the conversation may call"),
    "status": ("status", "judgements that were skipped, discarded or left unfinished are set aside"),
}
IMPLICIT = {"dialogue": "prompt and answer: up to the last turn of the assistant, and that turn"}
IMPLICIT |= {"repeated": "it begins with the prompt, which is taken off"}
IMPLICIT |= {"beginning": "prompt and answer: the words with which both answers begin, as was confirmed"}


def account_of(seen: Survey, form: Form, ignored: Sequence[str], scores: str) -> tuple[Entry, ...]:
    """An entry for each column, in the order of the file. Raises DataError where one holds text that is not understood.

    ``scores``: what scores in the file say of who won.
    """
    roles: dict[str, list[str]] = {}
    for ours, theirs in form.names.items():
        roles.setdefault(theirs, []).append(ours)
    entries, unknown = [], []
    for name, column in seen.columns.items():
        if name in roles:
            entries += [_used(seen, form, ours, column, scores) for ours in roles[name]]
            entries += _inside(seen, column)
            continue
        why = "left out, as data.ignored says" if name in ignored else _why_left(seen, form, column)
        entries.append(Entry(name, "", why or "", seen.share(name)))
        unknown += [] if why else [column]
    if unknown:
        raise DataError(_ask(seen, unknown))
    return tuple(_together(entries))


def marks_of_templates(seen: Survey, form: Form) -> list[str]:
    """A note where texts hold the marks of a chat template, which are no conversation here."""
    for name in (form.names[ours] for ours in ("prompt", *PAIR, "answer_a", "answer_b") if ours in form.names):
        for line, values in seen.sample:
            if isinstance(text := values.get(name), str) and (mark := MARKS.search(text)):
                return [
                    f"{name!r} holds marks of a chat template (line {line}: {mark[0]}), which stay in its text; write "
                    "the conversation as a list of messages"
                ]
    return []


def _together(entries: list[Entry]) -> list[Entry]:
    """Several fields of one object that are left out for the same reason as one entry, ``moderation.*``."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        inside = not entry.taken_for and "." in entry.name and not entry.name.startswith("task.")
        groups.setdefault((f"{entry.name.split('.')[0]}.*" if inside else entry.name + "\0", entry.why), []).append(
            entry
        )
    told: list[Entry] = []
    for (name, why), group in groups.items():
        several = name.endswith(".*") and len(group) > 3
        share = max(entry.share or 0.0 for entry in group)
        told += [Entry(name, "", f"{why} ({len(group)} fields)", share)] if several else group
    return told


def _used(seen: Survey, form: Form, ours: str, column: Column, scores: str) -> Entry:
    taken_for, why = HOW.get(ours, (ours, ""))
    share = seen.share(column.name)
    if ours == "preferred" and form.scale is not None:
        reading = form.scale.reading
        why = reading.why + (f"; {scores}" if scores else "")
        if reading.middle is not None and "margin" not in form.names:
            why += f"; its strength is not kept (--map margin={column.name})"
        if not column.many and reading.sides:
            known = sum(code.count for code in column.codes.values() if reading.side(code.value))
            share *= known / max(sum(code.count for code in column.codes.values()), 1)
    elif ours in (*PAIR, "answer_a", "answer_b") and form.implicit:
        why = IMPLICIT[form.implicit]
    elif ours == "chosen" and scores:
        why = scores
    if ours == "prompt" and "input" not in form.names and column.name != ours:
        why = "the only column that can be the prompt, by its name"
    return Entry(column.name, taken_for, why, share)


def _inside(seen: Survey, column: Column) -> list[Entry]:
    """Fields of a column's messages that are left out, as the first rows have them."""
    fields: set[str] = set()
    for _, values in seen.sample if column.kinds["messages"] else ():
        try:
            fields |= left_out(values.get(column.name))
        except ValueError:
            continue  # the row is refused with its reason when it is read
    return [Entry(f"{column.name}[].{field}", "", "beside what a message says") for field in sorted(fields)]


def _why_left(seen: Survey, form: Form, column: Column) -> str:
    """Why a column is left out; empty where it holds text that could belong to prompt or answer."""
    name, called, words = column.name, normal(column.name), set(tokens(column.name))
    if not column.filled:
        return "empty in every row"
    if not form.comparison and name in LABELS:
        return "not needed beside chosen and rejected; one value throughout would be refused"
    if words & PARTS:
        return ""
    if name == "status" and set(column.codes) <= {*COUNTED, *UNFINISHED}:
        return "every row is finished" if "status" not in form.names else "the state of each judgement counts"
    if form.comparison and name in ("chosen", "rejected") and not column.prose:
        return f"{form.names['preferred']!r} says who won"
    answers = [theirs for ours, theirs in form.names.items() if ours != "prompt"]
    inside = [form.names["prompt"]] if "prompt" in form.names else answers
    if column.textual and (column.prose or called in ASKED) and seen.repeats(name, inside, answers):
        return "repeats what prompt and answers say"
    if called in ASKED and len(column.distinct) > 1:
        return ""
    if name == "safer_response_id" and form.names.get("preferred") == "better_response_id":
        return "judges harm; 'better_response_id' says which answer helps more"
    if (known := DOCUMENTED.get(name.split(".")[0])) is not None:
        return known
    if RESPONSES in name:
        return "what annotators answered to another question"
    if words & KINDS and len(column.distinct) <= FEW:
        return "a kind of row, of a few"
    if words & METADATA or name.startswith("task."):
        return "beside the pair, by its name"
    if not column.prose and column.textual and len(column.distinct) == 1:
        return "the same text in every row"
    return "" if column.prose else "numbers, codes or names"


def _ask(seen: Survey, unknown: Sequence[Column]) -> str:
    column = unknown[0]
    line, value = next((line, values[column.name]) for line, values in _rows(seen, column.name))
    others = f", so does {', '.join(repr(each.name) for each in unknown[1:])}" if unknown[1:] else ""
    if set(tokens(column.name)) & PARTS:
        return (
            f"{seen.path}: {column.name!r} belongs to the prompt (line {line}: {str(value)[:60]!r}) and cannot be "
            f"used; to train without it: --ignore {shlex.quote(column.name)} (data.ignored)"
        )
    name, names = shlex.quote(column.name), " ".join(f"--ignore {shlex.quote(each.name)}" for each in unknown)
    return (
        f"{seen.path}: {column.name!r} holds text that could belong to the prompt (line {line}: {str(value)[:60]!r})"
        f"{others}; say what it is: --map input={name} (after the prompt), --map history={name} (before it), --map "
        f"system={name}, --map prompt={name} (in its place), or, if it is no part of it, {names} "
        "(data.columns, data.ignored)"
    )


def _rows(seen: Survey, name: str) -> list[tuple[int, dict[str, object]]]:
    found = [(line, values) for line, values in seen.sample if values.get(name)]
    return found or [(line, {name: "…"}) for line, _ in seen.sample[:1]]

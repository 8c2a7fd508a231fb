"""Rows as annotation tools and trainers write them, unfolded to one flat row of named values.

- Label Studio, CSV and JSON_MIN: the task's own columns, one named like the control tag, annotator, created_at.
  A Pairwise tag exports ``[{"selected": "left"}]`` (or the tag's leftChoiceValue), a Choices tag its text.
  Source: label-studio-sdk, ``converter/exports/csv2.py`` and ``converter/utils.py``.
- Label Studio, JSON: tasks, ``data`` and ``annotations[].result[].value``; ``was_cancelled``: the task was skipped.
  Source: https://labelstud.io/guide/task_format
- Argilla, ``to_list(flatten=True)``: the fields, ``QUESTION.responses``, ``QUESTION.responses.users`` and ``.status``,
  lists with one entry for each annotator; a ranking is a list of ``{"value": …, "rank": …}``.
  Source: argilla, ``records/_io/_generic.py``.
- Argilla, ``to_json``: ``fields``, and ``responses`` of lists of ``{"value": …, "user_id": …}``; before version 2 a
  column for each question, of such lists with a ``status``. Source: argilla, ``records/_resource.py``.
- Prodigy, choice interface: ``options`` of two texts, ``accept`` with the chosen id, ``answer`` accept, reject, ignore.
  Source: https://prodi.gy/docs/api-interfaces#choice
- ms-swift: ``messages`` with the chosen answer as the last, and ``rejected_response``, a text.
  Source: ms-swift, ``docs/source_en/Customization/Custom-dataset.md``.
- LLaMA-Factory: one message in place of a text, ``{"from": "gpt", "value": …}``.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any

RESPONSES = ".responses"
COUNTED = ("submitted", "completed")
"""States of a judgement that counts; the other states of annotation tools are in UNFINISHED."""
UNFINISHED = ("discarded", "draft", "pending", "skipped")
SCORE_LISTS = ("rating", "ratings", "score", "scores")
CONTROLS = {"pairwise": "selected", "choices": "choices", "rating": "rating"}
"""Kinds of Label Studio's results that can say who won, and where their value is."""


def unfolded(values: dict[str, Any]) -> dict[str, Any]:
    """A row with its nested objects as values of their own, named with a dot; a message becomes a list of one.

    Lists stay as they are, but for two objects with a text each (``summaries.0.text``) and two scores (``rating.0``).
    """
    if isinstance(values.get("data"), dict) and isinstance(values.get("annotations"), list):
        values = _label_studio(values)
    elif isinstance(values.get("options"), list) and ("accept" in values or "answer" in values):
        values = _prodigy(values)
    elif isinstance(values.get("fields"), dict) and isinstance(values.get("responses"), dict):
        values = _argilla(values)
    elif "rejected_response" in values and _whole(values.get("messages")):
        values = _swift(values)
    if {"winner_model_a", "winner_model_b"} <= values.keys():
        values = _one_hot(values)
    if not any(
        isinstance(value, dict) or _two(name, value) or _answered(name, value) for name, value in values.items()
    ):
        return values
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _leaves(name, value)
    return flat


def _leaves(name: str, value: Any) -> dict[str, Any]:
    if answered := _answered(name, value):
        return answered
    if _two(name, value):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict) or not value or isinstance(value.get("messages"), list):
        return {name: value}
    if {"role", "content"} <= set(value) or {"from", "value"} <= set(value):
        return {name: [value]}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _leaves(f"{name}.{key}", inner)
    return flat


def _two(name: str, value: Any) -> bool:
    """Whether a value is a list of two objects with a text each, or of the scores of two answers."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    if name in SCORE_LISTS:
        return all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
    return all(isinstance(item, dict) and isinstance(item.get("text"), str) and "role" not in item for item in value)


def _label_studio(task: Mapping[str, Any]) -> dict[str, Any]:
    annotations = [item for item in task["annotations"] if isinstance(item, dict)]
    flat = dict(task["data"])
    flat |= {f"task.{name}": value for name, value in task.items() if name not in ("data", "annotations")}
    found = [(item, _results(item)) for item in annotations]
    controls = sorted({name for _, results in found for name in results})
    for name in controls:
        column = name + RESPONSES
        flat[column] = [results.get(name) for _, results in found]
        flat[column + ".users"] = [_who(item.get("completed_by")) for item, _ in found]
        flat[column + ".status"] = ["skipped" if item.get("was_cancelled") else "submitted" for item, _ in found]
    if not controls and any(item.get("was_cancelled") for item in annotations):
        flat["status"] = "skipped"
    if any(item.get("ground_truth") for item in annotations):
        flat["task.ground_truth"] = [bool(item.get("ground_truth")) for item in annotations]
    written = [_other(item) for item in annotations]
    return flat | ({"task.annotations": written} if any(written) else {})


def _results(annotation: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in annotation.get("result") or ():
        key = CONTROLS.get(result.get("type", ""))
        if key and isinstance(result.get("value"), dict):
            value = result["value"].get(key)
            found[str(result.get("from_name"))] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return found


def _other(annotation: Mapping[str, Any]) -> list[Any]:
    return [item.get("value") for item in annotation.get("result") or () if item.get("type") not in CONTROLS]


def _who(completed_by: Any) -> Any:
    return (completed_by.get("email") or completed_by.get("id")) if isinstance(completed_by, Mapping) else completed_by


def _prodigy(task: Mapping[str, Any]) -> dict[str, Any]:
    options, flat = task["options"], {name: value for name, value in task.items() if name != "options"}
    if len(options) != 2 or not all(isinstance(option, dict) and "text" in option for option in options):
        return dict(task)
    flat |= {f"options.{number}": option["text"] for number, option in enumerate(options)}
    accepted = [number for number, option in enumerate(options) if option.get("id") in (task.get("accept") or ())]
    flat["accept"] = "tie" if len(accepted) == 2 else f"options.{accepted[0]}" if accepted else None
    if "answer" in task:
        flat["status"] = "submitted" if flat.pop("answer") == "accept" else "skipped"
    who = flat.pop("_annotator_id", None) or flat.pop("_session_id", None)
    return flat | ({"annotator": who} if who else {})


def _argilla(record: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in record.items() if name not in ("fields", "responses")}
    flat |= record["fields"]
    for question, given in record["responses"].items():
        flat |= _answered(question, given) or {f"responses.{question}": given}
    return flat


def _answered(question: str, given: Any) -> dict[str, Any] | None:
    """The columns of Argilla's flat export for a list of ``{"value": …, "user_id": …, "status": …}``."""
    if not isinstance(given, list) or not given or not all(map(_is_answer, given)):
        return None
    column = question + RESPONSES
    flat: dict[str, Any] = {column: [each["value"] for each in given]}
    for key, end in (("user_id", ".users"), ("status", ".status")):
        if any(each.get(key) is not None for each in given):
            flat[column + end] = [each.get(key) for each in given]
    return flat


def _is_answer(value: Any) -> bool:
    """Whether it is what one annotator said, and no message."""
    if not isinstance(value, dict) or "value" not in value:
        return False
    return bool({"user_id", "status"} & value.keys()) and not {"from", "role"} & value.keys()


def _whole(messages: Any) -> bool:
    """Whether it is a conversation that ends with an answer."""
    return (
        isinstance(messages, list)
        and len(messages) > 1
        and isinstance(messages[-1], dict)
        and messages[-1].get("role") == "assistant"
    )


def _swift(values: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation, its last answer and the rejected one, which is a text."""
    rejected = values["rejected_response"]
    told = {"messages": values["messages"][:-1], "messages.answer": values["messages"][-1:]}
    if isinstance(rejected, str):
        told["rejected_response"] = [{"role": "assistant", "content": rejected}]
    return {**values, **told}


def _one_hot(values: Mapping[str, Any]) -> dict[str, Any]:
    """Three columns of 0 and 1 as one that says who won; of rows without exactly one 1, the winner is not known.

    Source: https://www.kaggle.com/competitions/lmsys-chatbot-arena/data
    """
    sides = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
    won = [side for name, side in sides.items() if str(values.get(name)).casefold() in ("1", "1.0", "true")]
    rest = {name: value for name, value in values.items() if name not in sides}
    return rest | {"winner": won[0] if len(won) == 1 else None}


def parsed(value: Any) -> Any:
    """A list or object that a CSV file holds as JSON, or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            result = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return result if isinstance(result, list | dict) else value
    return value


def several(value: Any) -> list[Any] | None:
    """One judgement for each annotator; None where a value is a single judgement."""
    value = parsed(value)
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return value
    return None


def votes(value: Any) -> list[Any]:
    """The plain values by which a cell says who won; a ranking has none."""
    single = (one_vote(item) for item in (several(value) or [value]))
    return [vote for vote in single if not isinstance(vote, list | dict)]


def one_vote(value: Any) -> Any:
    """A single judgement without the list or object that a tool wraps it in; a ranking stays as it is."""
    value = parsed(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("selected", value.get("choices", value))
    return value[0] if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict) else value

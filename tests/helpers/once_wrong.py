"""Nineteen kinds of files that were read wrongly, or refused although they are sound (docs/reference/shapes.md)."""

import json

from tests.helpers import answer_shapes as given
from tests.helpers import log_shapes as logs
from tests.helpers import preference_shapes as pref
from tests.helpers.foreign_files import FORMS
from tests.helpers.log_kinds import jsonl, trainer_state, verl_file
from tests.helpers.preference_shapes import HUB, made, preferences
from tests.helpers.shapes import Shape, rows_as, separated, standard, text_as

TRL, FACTORY = "huggingface/trl issue", "hiyouga/LLaMA-Factory issue"
LOG, STATE = "log.jsonl", "trainer_state.json"


def once_wrong() -> dict[str, list[Shape]]:
    """Kind -> its files."""
    return preferences_once_wrong() | answers_once_wrong() | logs_once_wrong()


def preferences_once_wrong() -> dict[str, list[Shape]]:
    orca, tools = HUB + "argilla/distilabel-intel-orca-dpo-pairs", f"{TRL} 4959"
    begun = made(FORMS["distilabel orca"].write)
    for row in begun:
        row |= {side: f"Thank you for your message. {row[side]}" for side in ("chosen", "rejected")}
    null = made(lambda pair: pref.tools_in_prompt(pair, None))
    return {
        "`input` beside `instruction`": [preferences("", pref.alpaca(), "", f"{FACTORY} 6509")],
        "discarded and draft judgements": [preferences("", pref.argilla_status(), "", "argilla-io/argilla issue 3008")],
        "`better_response_id` from zero": [
            preferences("", made(FORMS["PKU-SafeRLHF"].write), "", pref.DOCUMENTED["PKU-SafeRLHF"])
        ],
        "`labels` 1 is A": [preferences("", made(FORMS["SHP"].write), "", pref.DOCUMENTED["SHP"])],
        "roles Human and Assistant": [preferences("", pref.capital_roles(), "", f"{FACTORY} 3264")],
        "the prompt under another name": [
            preferences("called input, answers begin alike", begun, "", orca),
            preferences("called query, answers begin alike", pref.other_prompt()),
            preferences("called query, answers do not", pref.other_prompt(beginning=False)),
        ],
        "dialects of CSV": dialects(),
        "answers with lines and commas": [csv_answers()],
        "arrays under any name": arrays(),
        "invisible characters": [preferences("", pref.invisible())],
        "calls of tools": [
            preferences("in the prompt", made(pref.tools_in_prompt), "", tools),
            preferences("in the prompt, content null", null, "", tools),
            preferences("in the answer", made(pref.tools_in_answer), "", tools),
        ],
    }


def dialects() -> list[Shape]:
    rows = standard()
    texts = {
        "semicolons": (separated(rows, ";"), "utf-8-sig"),
        "tabs": (separated(rows, "\t"), "utf-8"),
        "UTF-16": (separated(rows), "utf-16"),
        "CR": (separated(rows, end="\r"), "utf-8"),
        "CR LF with a byte order mark": (separated(rows), "utf-8-sig"),
    }
    return [
        Shape(name, text_as("pairs.csv", text, encoding), "validate pairs.csv")
        for name, (text, encoding) in texts.items()
    ]


def csv_answers() -> Shape:
    code = "\nfor day in (1, 2, 3):\n    print(day, 'on its way')"
    rows = [row | {side: row[side] + code for side in ("chosen", "rejected")} for row in standard()]
    return Shape("", text_as("pairs.csv", separated(rows)), "validate pairs.csv")


def arrays() -> list[Shape]:
    rows = standard()
    return [
        Shape("called .json", text_as("pairs.json", json.dumps(rows)), "validate pairs.json"),
        Shape("called .jsonl", text_as("pairs.jsonl", json.dumps(rows)), "validate pairs.jsonl"),
        Shape(
            "pretty objects",
            text_as("pairs.jsonl", "\n".join(json.dumps(row, indent=1) for row in rows)),
            "validate pairs.jsonl",
        ),
    ]


def answers_once_wrong() -> dict[str, list[Shape]]:
    one, other = given.better(given.lists(given.answers())), given.answers(ahead=5)
    judged = "gate theirs/evaluation.parquet"
    bare = given.better(given.mixed(given.answers()))
    return {
        "answers that are lists, in CSV": [
            chained(given.samples("CSV", one, other, "csv"), judged),
            chained(given.samples("the same in JSON lines", one, other), judged),
        ],
        "cells of mixed kinds": [
            given.samples("bare numbers in CSV", bare, other, "csv"),
            given.samples("an empty text for a number", bare, [row | {"kl_nats": ""} for row in other]),
        ],
        "responses that are messages": [
            Shape("messages", given.messages(), "gate messages.parquet"),
            Shape("the same as texts", rows_as("texts.parquet", given.rows(given.with_empty())), "gate texts.parquet"),
        ],
    }


def chained(shape: Shape, then: str) -> Shape:
    return shape._replace(command=f"{shape.command} && {then}")


def logs_once_wrong() -> dict[str, list[Shape]]:
    log = logs.log
    return {
        "KL is NaN in every row": [
            log("", trainer_state, logs.without_kl(), STATE, "", "huggingface/open-r1 issue 704")
        ],
        "`completion_length`": [log("", trainer_state, logs.course(logs.GRPO_OLD), STATE, "", f"{TRL} 3452")],
        "KL below zero and falling": [log("", trainer_state, logs.negative_kl(), STATE, "", f"{TRL} 351")],
        "a run that was resumed": [
            log("steps 16 to 20 twice", verl_file, logs.resumed(), LOG),
            log("rows out of order", jsonl, logs.shuffled(), LOG),
        ],
        "both KLs of verl": [log("", verl_file, logs.course(logs.VERL_BOTH), LOG, "", logs.VERL)],
    }

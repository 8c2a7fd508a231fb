"""Shapes of preference files, by section of docs/reference/shapes.md."""

import json
from typing import Any

import pandas as pd

from tests.helpers.foreign_files import FORMS, Pair, Writer, answers, argilla, assistant, code, compared, user
from tests.helpers.shapes import Rows, Shape, pairs, rows_as, separated, standard, text_as

HUB = "https://huggingface.co/datasets/"
ARGILLA = "argilla-io/argilla: argilla"
DOCUMENTED = {
    "standard": "https://huggingface.co/docs/trl/dataset_formats",
    "conversational": "https://huggingface.co/docs/trl/dataset_formats",
    "implicit conversation": "https://huggingface.co/docs/trl/dataset_formats",
    "hh-rlhf": HUB + "Anthropic/hh-rlhf",
    "UltraFeedback": HUB + "HuggingFaceH4/ultrafeedback_binarized",
    "HelpSteer3": HUB + "nvidia/HelpSteer3",
    "PKU-SafeRLHF": HUB + "PKU-Alignment/PKU-SafeRLHF",
    "SHP": HUB + "stanfordnlp/SHP",
    "distilabel orca": HUB + "argilla/distilabel-intel-orca-dpo-pairs",
    "arena": HUB + "lmsys/chatbot_arena_conversations",
    "Kaggle's arena": "https://www.kaggle.com/competitions/lmsys-chatbot-arena/data",
    "TL;DR": HUB + "openai/summarize_from_feedback",
    "Argilla": f"{ARGILLA}/src/argilla/records/_io/_generic.py",
    "Label Studio": "https://labelstud.io/guide/task_format",
    "Prodigy": "https://prodi.gy/docs/api-interfaces#choice",
    "LLaMA-Factory": "hiyouga/LLaMA-Factory: data/README.md",
    "Argilla's UltraFeedback": HUB + "argilla/ultrafeedback-binarized-preferences",
    "Stack Exchange": HUB + "lvwerra/stack-exchange-paired",
    "AlpacaEval": "https://github.com/tatsu-lab/alpaca_eval",
    "MT-bench's verdict": HUB + "lmsys/mt_bench_human_judgments",
}


def made(write: Writer, count: int = 240) -> Rows:
    return [write(pair) for pair in pairs(count)]


def preferences(name: str, rows: Rows, options: str = "", source: str = "", file: str = "pairs.jsonl") -> Shape:
    return Shape(name, rows_as(file, rows), f"validate {file} {options}".strip(), source)


def told(name: str) -> str:
    """The options of a form that needs some."""
    said = FORMS[name].said
    values = ",".join(f"{value}={side}" for value, side in said.preferred_values.items())
    mapped = " ".join(f"--map {ours}={theirs}" for ours, theirs in said.columns.items())
    return f"{mapped} {f'--map-values {chr(39)}{values}{chr(39)}' if values else ''}".strip()


def forms() -> list[Shape]:
    """Every form that the property tests go through."""
    known = [preferences(name, made(form.write), told(name), DOCUMENTED.get(name, "")) for name, form in FORMS.items()]
    task, swift = DOCUMENTED["Label Studio"], "modelscope/ms-swift: docs/source_en/Customization/Custom-dataset.md"
    return [
        *known,
        preferences("Label Studio, CSV", made(label_studio_csv), "", task, "pairs.csv"),
        preferences("Argilla: to_json", made(argilla_json), "", f"{ARGILLA}/src/argilla/records/_resource.py"),
        preferences("ms-swift", made(swift_row), "", swift),
        preferences("y_w, y_l", made(renamed(chosen="y_w", rejected="y_l"))),
        preferences("names that say won and lost", made(renamed(chosen="Preferred", rejected="Non-preferred"))),
        scaled("yes and no by its name", "a_is_better", "answer_a", "answer_b", "yes", "no"),
        scaled("a question as a name", "Which response is better?", "Response A", "Response B", "Response A", "B"),
    ]


# ---- what has two readings, or none


def scaled(name: str, column: str, one: str, two: str, first: Any, second: Any, options: str = "") -> Shape:
    return preferences(name, made(compared(one, two, column, first, second)), options)


def without_winner(pair: Pair) -> dict[str, Any]:
    return {"prompt": pair.prompt, **answers(pair, "answer_a", "answer_b")}


def helpsteer2(pair: Pair) -> dict[str, Any]:
    row = {"split": "train", "prompt": pair.prompt, **answers(pair, "response_1", "response_2")}
    return row | {"preference_strength": code(pair, -2, 1), "preference_statement": "It says more of it."}


def tldr_titles(pair: Pair) -> dict[str, Any]:
    row = FORMS["TL;DR"].write(pair)
    return row | {"info": row["info"] | {"title": f"A parcel that does not come ({pair.prompt[-4:-1]})"}}


def kto(pair: Pair) -> dict[str, Any]:
    return {"messages": user(pair.prompt) + assistant(pair.better), "label": pair.first}


def argilla_json(pair: Pair) -> dict[str, Any]:
    fields = {"prompt": pair.prompt, **answers(pair, "response1", "response2")}
    given = [{"value": code(pair, "response1", "response2"), "user_id": "u1"}]
    return {"id": "1", "fields": fields, "metadata": {}, "suggestions": {}, "responses": {"pref": given}}


def swift_row(pair: Pair) -> dict[str, Any]:
    return {"messages": user(pair.prompt) + assistant(pair.better), "rejected_response": pair.worse}


def renamed(**names: str) -> Writer:
    return lambda pair: {names.get(name, name): value for name, value in FORMS["standard"].write(pair).items()}


def label_studio_csv(pair: Pair) -> dict[str, Any]:
    """label-studio-sdk, converter/exports/csv2.py: the task's own columns, the control's, and five more."""
    row = {"annotation_id": 7, "annotator": "ann@x.org", **answers(pair, "answer1", "answer2")}
    row |= {"comparison": [{"selected": code(pair, "left", "right")}], "created_at": "2026-01-31T09:00:00Z"}
    return row | {"id": 1, "lead_time": 3.2, "prompt": pair.prompt}


def two_questions(pair: Pair) -> dict[str, Any]:
    users = {"tone.responses.users": ["u1"], "tone.responses.status": ["submitted"]}
    return argilla(pair) | {"tone.responses": [code(pair, "response2", "response1")]} | users


def nectar(pair: Pair) -> dict[str, Any]:
    texts = (pair.better, pair.worse, "Please ask somebody else.")
    return {"prompt": pair.prompt, "answers": [{"answer": text, "rank": n} for n, text in enumerate(texts, 1)]}


def tools_in_prompt(pair: Pair, content: Any = "") -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "track", "arguments": {"id": 7}}}
    asked = {"role": "assistant", "content": content, "tool_calls": [call]}
    prompt = [*user(pair.prompt), asked, {"role": "tool", "name": "track", "content": '{"day": 3}'}]
    definition = [{"type": "function", "function": {"name": "track"}}]
    return {"tools": definition, "prompt": prompt, "chosen": assistant(pair.better), "rejected": assistant(pair.worse)}


def tools_in_answer(pair: Pair) -> dict[str, Any]:
    def calls(name: str) -> list[dict[str, Any]]:
        function = {"name": name, "arguments": {"id": 7}}
        return [assistant("Let me look.")[0] | {"tool_calls": [{"type": "function", "function": function}]}]

    return {"prompt": user(pair.prompt), "chosen": calls("track"), "rejected": calls("refund")}


def readings() -> list[Shape]:
    """Codes and columns that have two readings, and files that hold no pairs."""
    scores = [
        row | {"score_a": code(pair, 9, 3), "score_b": code(pair, 3, 9)}
        for row, pair in zip(made(compared("response_a", "response_b", "label", 1, 0)), pairs(), strict=True)
    ]
    wrong = [
        row | {"score_1": code(pair, 3, 9), "score_2": code(pair, 9, 3)}
        for row, pair in zip(made(compared("response_1", "response_2", "winner", 1, 2)), pairs(), strict=True)
    ]
    two = [
        {
            "query": row["prompt"],
            "question": f"Customer {n} asks for news.",
            **{k: row[k] for k in ("chosen", "rejected")},
        }
        for n, row in enumerate(standard())
    ]
    extra = [row | {"policy_text": f"Rule {n} of the shop applies here."} for n, row in enumerate(standard())]
    return [
        scaled("0 and 1 under a name that says nothing", "label", "response_a", "response_b", 1, 0),
        preferences("the same beside scores of both answers", scores),
        scaled("true and false under such a name", "label", "response_a", "response_b", True, False),
        scaled("0 and 1 beside answers 1 and 2", "choice", "response_1", "response_2", 0, 1),
        scaled("strengths 1 to 5", "preference", "response_a", "response_b", 2, 5),
        scaled("-1 and 1", "vote", "response_a", "response_b", 1, -1),
        scaled("letters and figures in one column", "winner", "response_a", "response_b", "a", "2"),
        preferences("scores that contradict the winner", wrong),
        preferences("HelpSteer2: preference_strength", made(helpsteer2), source=HUB + "nvidia/HelpSteer2"),
        preferences("two columns that can be the prompt", two),
        preferences("the same, told", two, "--map prompt=query --ignore question"),
        preferences("other text that varies", extra),
        preferences("the same, told", extra, "--map system=policy_text"),
        preferences(
            "TL;DR with titles", made(tldr_titles), "--map input=info.title", HUB + "openai/summarize_from_feedback"
        ),
        preferences("two texts that begin alike, no prompt", implicit()),
        preferences("the same, confirmed", implicit(), "--accept", "https://huggingface.co/docs/trl/dataset_formats"),
        preferences("two answers, nobody says who won", made(without_winner), source=HUB + "openai/webgpt_comparisons"),
        preferences("KTO: one answer a row", made(kto), source="hiyouga/LLaMA-Factory: data/kto_en_demo.json"),
        preferences("three answers and more, ranked", made(nectar), source=HUB + "berkeley-nest/Nectar"),
        preferences("Argilla with two questions of labels", made(two_questions)),
        preferences("the same, told", made(two_questions), "--map preferred=pref.responses --ignore tone.responses"),
        preferences("answers that call a tool", made(tools_in_answer), source="huggingface/trl issue 4959"),
    ]


def implicit() -> Rows:
    return [{"chosen": f"{pair.prompt} {pair.better}", "rejected": f"{pair.prompt} {pair.worse}"} for pair in pairs()]


# ---- kinds of files


def kinds() -> list[Shape]:
    """One table in every kind of file and dialect; and files that are not sound."""
    rows, table = standard(), pd.DataFrame(standard())
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    odd = [
        row | {side: f'{row[side]}\n\n1. "Open" the app,\n2. wait, please\n' for side in ("chosen", "rejected")}
        for row in rows
    ]
    long = [*rows[:-1], rows[-1] | {"rejected": "word " * 40_000}]
    packed = {"JSON lines": "pairs.jsonl", "JSON lines, packed": "pairs.jsonl.gz", "CSV": "pairs.csv"}
    packed |= {"tabs": "pairs.tsv", "Parquet": "pairs.parquet"}
    texts = [
        ("one array", "pairs.json", json.dumps(rows), "utf-8"),
        ("an array under the name .jsonl", "pairs.jsonl", json.dumps(rows), "utf-8"),
        ("objects over several lines", "pairs.jsonl", "\n".join(json.dumps(row, indent=1) for row in rows), "utf-8"),
        ("an object that wraps the rows", "pairs.json", json.dumps({"version": 1, "data": rows}), "utf-8"),
        ("pandas: to_json()", "pairs.json", table.to_json(), "utf-8"),
        ("lists by column", "pairs.json", json.dumps(columns), "utf-8"),
        ("semicolons, a byte order mark, CR LF (Excel)", "pairs.csv", separated(rows, ";"), "utf-8-sig"),
        ("pipes", "pairs.csv", separated(rows, "|"), "utf-8"),
        ("UTF-16", "pairs.csv", separated(rows), "utf-16"),
        ("lines that end with CR (old Mac)", "pairs.csv", separated(rows, end="\r"), "utf-8"),
        ("quoted answers with lines, commas and quotes", "pairs.csv", separated(odd), "utf-8"),
        ("a field of 200,000 characters", "pairs.csv", separated(long), "utf-8"),
        ("U+2028 inside a text", "pairs.jsonl", json_lines_with_separator(rows), "utf-8"),
        ("Latin-1", "pairs.csv", separated(rows).replace("parcel number 7?", "Päckchen?"), "latin-1"),
        ("a quote that is never closed", "pairs.csv", separated(rows)[:-2].replace(",Nobody", ',"Nobody', 1), "utf-8"),
        ("a column twice", "pairs.csv", separated(rows).replace("rejected", "chosen", 1), "utf-8"),
        ("a title above the header", "pairs.csv", "Export of May,,\r\n" + separated(rows), "utf-8"),
        ("a row of another width", "pairs.csv", separated(rows) + "one,two,three,four\r\n", "utf-8"),
        ("a file that was cut off", "pairs.json", json.dumps(rows)[:-900], "utf-8"),
    ]
    return [
        *(Shape(kind, rows_as(file, rows), f"validate {file}") for kind, file in packed.items()),
        *(Shape(name, text_as(file, text, code), f"validate {file}") for name, file, text, code in texts),
    ]


def json_lines_with_separator(rows: Rows) -> str:
    changed = [row | {side: f"{row[side]}\u2028That is all." for side in ("chosen", "rejected")} for row in rows]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in changed)


# ---- of the nineteen


def alpaca() -> Rows:
    asked = ("Translate the message into polite English.", "Answer the customer.")
    return [
        {"instruction": asked[n % 2], "input": pair.prompt, "chosen": pair.better, "rejected": pair.worse}
        for n, pair in enumerate(pairs())
    ]


def argilla_status() -> Rows:
    """Every sixth judgement is discarded, another a draft; some tasks have nobody's."""
    rows = made(argilla, 360)
    for n, row in enumerate(rows):
        row["pref.responses.status"] = [
            ("discarded", "draft", "submitted", "submitted", "submitted", "submitted")[n % 6]
        ]
        if n % 40 == 2:
            row |= dict.fromkeys(("pref.responses", "pref.responses.users", "pref.responses.status"))
    return rows


def capital_roles() -> Rows:
    def talk(pair: Pair, answer: str) -> list[dict[str, str]]:
        return [{"role": "Human", "content": pair.prompt}, {"role": "Assistant", "content": answer}]

    return made(lambda pair: {"chosen": talk(pair, pair.better), "rejected": talk(pair, pair.worse)})


def invisible() -> Rows:
    """Every thirtieth chosen answer has nothing to be seen; two prompts differ in a zero-width space."""
    rows = standard()
    for n, mark in enumerate("\u200b\u2060\u00ad\u200e\u3164\u115f\ufeff\u034f"):
        rows[30 * n]["chosen"] = mark * 3
    rows[2]["prompt"] = rows[1]["prompt"].replace(" ", "\u200b ", 1)
    rows[4]["chosen"] = "رسالتك في الطريق \N{FAMILY}"
    return rows


def other_prompt(beginning: bool = True) -> Rows:
    """Both answers begin alike, as answers of support do; the prompt is called query."""
    start = "Thank you for your message. " if beginning else ""
    return [{"query": pair.prompt, "chosen": start + pair.better, "rejected": start + pair.worse} for pair in pairs()]

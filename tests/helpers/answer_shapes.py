"""Shapes of evaluations and of files of samples, by section of docs/reference/shapes.md."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tests.helpers.evaluations import evaluation
from tests.helpers.shapes import Rows, Shape, both, rows_as, text_as


def table(**more: Any) -> pd.DataFrame:
    """An evaluation that is promoted: 60 prompts, two answers each."""
    return evaluation(60, gain=1.0, **more).round(6)


def rows(frame: pd.DataFrame) -> Rows:
    """Its rows; what is no number is null."""
    return [{name: None if cell != cell else cell for name, cell in row.items()} for row in frame.to_dict("records")]


def judged(name: str, frame: pd.DataFrame, file: str = "evaluation.csv", options: str = "") -> Shape:
    return Shape(name, rows_as(file, rows(frame)), f"gate {file} {options}".strip())


def german(frame: pd.DataFrame) -> str:
    """As a spreadsheet program with a German locale writes it."""
    return frame.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")


def padded() -> pd.DataFrame:
    frame = table().assign(length_tokens=512)
    frame.loc[frame.index % 3 == 0, "response"] += " It is on its way, and you can follow it in the app at any time."
    return frame


def messages() -> Callable[[Path], object]:
    """Responses as lists of messages in Parquet, of which every eighth of the candidate is empty."""
    return lambda folder: with_empty(as_messages=True).to_parquet(folder / "messages.parquet", index=False)


def with_empty(as_messages: bool = False) -> pd.DataFrame:
    frame = table()
    frame.loc[(frame["system"] == "candidate") & (frame.index % 8 == 0), "response"] = ""
    if as_messages:
        frame["response"] = [[{"role": "assistant", "content": text}] for text in frame["response"]]
    return frame


def evaluations() -> list[Shape]:
    """What ``kellet gate`` takes, and what it refuses."""
    good, text = table(), "evaluation.csv"
    calls = [[{"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}]] * len(good)
    csv_text = good.to_csv(index=False)
    other_judge = table(judged=60).rename(columns={"judge_human": "judge_gpt"})
    return [
        judged("CSV", good),
        Shape("semicolons and decimal commas", text_as(text, german(good), "utf-8-sig"), f"gate {text}"),
        judged("JSON lines", good, "evaluation.jsonl"),
        judged("one array", good, "evaluation.json"),
        judged("Parquet", good, "evaluation.parquet"),
        judged("packed", good, "evaluation.csv.gz"),
        judged("names in other capitals", good.rename(columns={"reward": "Reward", "system": "System"})),
        judged("other columns", good.assign(temperature=1.0, model="a")),
        judged("verdicts of people", table(judged=60)),
        judged("a judge that nobody named", other_judge),
        judged("the same, told", other_judge, options="--set gate.judge=judge_gpt"),
        judged("a name that is nearly right", good.rename(columns={"kl_nats": "kl_nat"})),
        judged("several messages in a response", good.assign(response=calls), "evaluation.jsonl"),
        judged("a reward in words", good.assign(reward=["high", *good["reward"][1:]])),
        judged("a negative KL", good.assign(kl_nats=good["kl_nats"] - 3)),
        Shape(
            "a column twice",
            text_as(text, csv_text.replace("truncated", "reward", 1)),
            f"gate {text}",
        ),
        judged("999 where there is no reward", good.assign(reward=[999, *good["reward"][1:]])),
        judged("KL of 0 in every answer", good.assign(kl_nats=0.0)),
        judged("one length for all answers", padded()),
        judged("a judge without a figure", good.assign(judge_human=None)),
        judged("a judge under another name", good.assign(llm_judge=0.5)),
        judged("a system that is missing", good[good["system"] == "candidate"]),
    ]


# ---- samples: two files of answers

WORDS = (
    "parcel",
    "refund",
    "invoice",
    "voucher",
    "code",
    "order",
    "battery",
    "coupon",
    "gift",
    "size",
    "login",
    "address",
)


def answers(count: int = 60, ahead: int = 0, **more: Any) -> Rows:
    """Two answers to each prompt, each of 12 words, in an order of their own."""
    return [
        {
            "prompt": f"Where is parcel {n}?",
            "response": " ".join([*turned(n + s + ahead)[:11], str(n)]),
            "reward": 0.1 * (n % 7) + 0.3 * s,
            **more,
        }
        for n in range(count)
        for s in range(2)
    ]


def turned(n: int) -> list[str]:
    return [*WORDS[n % 12 :], *WORDS[: n % 12]]


def better(found: Rows) -> Rows:
    """With a reward that is one higher, and a KL."""
    return [row | {"reward": row["reward"] + 1, "kl_nats": 2.0} for row in found]


def samples(
    name: str, candidate: Rows, reference: Rows, kind: str = "jsonl", options: str = "", source: str = ""
) -> Shape:
    files = f"candidate.{kind}", f"reference.{kind}"
    write = both(rows_as(files[0], candidate), rows_as(files[1], reference))
    command = f"import-logs --candidate {files[0]} --reference {files[1]} {options}".strip()
    return Shape(name, write, f"{command} --out theirs", source)


def renamed(found: Rows, **names: str) -> Rows:
    return [{names.get(name, name): value for name, value in row.items()} for row in found]


def lists(found: Rows) -> Rows:
    """Answers as lists of 10 lines with two words each: 20 words against 12."""
    return [
        row
        | {
            "response": "\n".join(
                f"{word} {other}" for word, other in zip(turned(n)[:10], turned(n + 1)[:10], strict=True)
            )
        }
        for n, row in enumerate(found)
    ]


def chats(found: Rows) -> Rows:
    return [
        row
        | {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "response": [{"role": "assistant", "content": row["response"]}],
        }
        for row in found
    ]


def mixed(found: Rows) -> Rows:
    """Some answers are bare numbers."""
    return [row | {"response": str(n)} if n % 5 == 0 else row for n, row in enumerate(found)]


def full_text(found: Rows) -> Rows:
    return [row | {"response": f"{row['prompt']} {row['response']}"} for row in found]


def ended(found: Rows) -> Rows:
    return [row | {"response": f"{row['response']}<|im_end|>"} for row in found]


def dumps() -> list[Shape]:
    """Samples as trainers dump them, and what two files must agree in."""
    one, other = better(answers()), answers(ahead=5)
    verl = {"prompt": "input", "response": "output", "reward": "score"}
    trl = {"response": "completion", "reward": "accuracy_reward"}
    here, there = renamed(one, **trl), renamed(other, **trl)
    two = [row | {"score": row["reward"] / 2} for row in one], [row | {"score": row["reward"] / 2} for row in other]
    long = [row | {"length": 12} for row in one]
    return [
        samples("verl's generations: input, output, score", renamed(one, **verl), renamed(other, **verl)),
        samples("TRL's completions, Parquet", here, there, "parquet"),
        samples("the same, told", here, there, "parquet", "--map reward=accuracy_reward"),
        samples("CSV", one, other, "csv"),
        samples("JSON arrays", one, other, "json"),
        samples("prompts and answers as messages", chats(one), chats(other)),
        samples("two columns that fit the reward", *two),
        samples("a column kl, whose unit nobody said", [row | {"kl": 0.1} for row in answers()], other),
        samples("lengths in one file only", long, other),
        samples("answers that begin with their prompts", full_text(one), full_text(other)),
        samples("answers that end with special tokens", ended(one), ended(other)),
        samples("rows in another order", one[::-1], other),
        samples("another set of prompts", one, [row | {"prompt": row["prompt"] + " Now?"} for row in other]),
        samples("answers of several steps", [row | {"step": n % 2} for n, row in enumerate(one)], other),
    ]

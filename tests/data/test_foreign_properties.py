"""Laws of every form that is understood: what is written comes back, in any order, and no row is turned round."""

import csv
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kellet.data.conversation import messages_of
from kellet.data.form import Said
from kellet.data.preferences import CHUNK, read_preferences
from kellet.errors import DataError
from tests.helpers.foreign_files import FORMS, Pair, compared
from tests.helpers.rows import write_jsonl

TEXTS = st.text(alphabet="abcdé ,;'\"\n\t\u2028日本👍{}[]:", max_size=12)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=2, max_size=6)
Triple = tuple[str, str, str]


def table(texts: list[Triple]) -> list[Pair]:
    """Pairs that differ in every text, the better answer shown first in every second one."""
    return [
        Pair(f"Where is my parcel {n}?{one}x", f"Here it is, {n}.{two}x", f"We do not know {n}.{three}x", n % 2 == 0)
        for n, (one, two, three) in enumerate(texts)
    ]


def plain(prompt: str) -> str:
    """What the user says, of a conversation or a dialogue."""
    messages = messages_of(prompt)
    text = prompt if messages is None else messages[-1]["content"]
    return text.replace("\r\n", "\n").removeprefix("\n\nHuman: ").removesuffix("\n\nAssistant:")


def read(path: Path, said: Said, size: int = CHUNK) -> list[tuple[str, str, str]]:
    rows = pd.concat([chunk.rows for chunk in read_preferences(path, said=said, size=size)])
    rows = rows[~rows["tie"]]
    return sorted(zip(map(plain, rows["prompt"]), rows["chosen"], rows["rejected"], strict=True))


def wanted(pairs: list[Pair]) -> list[tuple[str, str, str]]:
    return sorted(pair[:3] for pair in pairs)


@pytest.mark.parametrize("name", FORMS)
@given(texts=PAIRS, seed=st.integers(0, 9))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_comes_back_in_any_order_and_in_parts(
    tmp_path_factory: pytest.TempPathFactory, name: str, texts: list[Triple], seed: int
) -> None:
    pairs, form = table(texts), FORMS[name]
    rows = [form.write(pair) for pair in pairs]
    path = write_jsonl(tmp_path_factory.mktemp("x") / "x.jsonl", rows)
    assert read(path, form.said) == wanted(pairs)
    assert read(path, form.said, size=1) == wanted(pairs)
    order = random.Random(seed)  # noqa: S311
    turned = [dict(order.sample(list(row.items()), len(row))) for row in order.sample(rows, len(rows))]
    assert read(write_jsonl(path, turned), form.said) == wanted(pairs)


FLAT = [
    name
    for name in FORMS
    if name != "Prodigy"  # which exports JSON lines alone
    and all(not isinstance(v, dict) for v in FORMS[name].write(Pair("p", "b", "w", True)).values())
]


@pytest.mark.parametrize("name", FLAT)
def test_the_same_comes_back_from_csv_and_parquet(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    pairs = table([("a", "b", "c"), ("d", "é", "f, g"), ('"h"', "i\nj", "k"), ("l", "m", "n")])
    rows = [form.write(pair) for pair in pairs]
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    assert read(tmp_path / "x.parquet", form.said) == wanted(pairs)
    if not name.startswith("hh-rlhf with CR LF"):
        assert read(tmp_path / "x.csv", form.said) == wanted(pairs)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


ENDINGS = (("a", "b"), ("0", "1"), ("1", "2"), ("left", "right"))
NAMES = ("label", "preference", "winner", "choice", "better_response_id", "best_index", "a_is_better", "prefers_1")
CODES = ((0, 1), (1, 0), (1, 2), (2, 1), (-1, 1), (1, -1), (1, 5), (5, 1), (True, False), (False, True), (0.2, 0.9))
WORDS = (("a", "b"), ("left", "right"), ("first", "second"), ("A is better", "B is better"))


def means_the_contrary(name: str, ends: tuple[str, str], first: Any, second: Any) -> bool:
    """Whether a file would contradict its own names, or call the second answer 1 and the first 2."""
    if first is True or first is False:
        return (name == "a_is_better" and first is False) or (name == "prefers_1" and first is (ends != ("1", "2")))
    if name == "a_is_better" or (name == "prefers_1" and ends == ("1", "2")):
        return bool((first, second) == (0, 1))
    if name == "prefers_1" and ends == ("0", "1"):
        return bool((first, second) == (1, 0))
    named = ends in (("0", "1"), ("1", "2")) and name in ("winner", "choice", "better_response_id", "best_index")
    if named and {str(first), str(second)} == set(ends):
        return (str(first), str(second)) != ends
    return (first, second) == (2, 1) or (name == "best_index" and (first, second) == (1, 0))


@pytest.mark.parametrize("ends", ENDINGS)
def test_no_row_is_turned_round_whatever_the_codes_and_names(tmp_path: Path, ends: tuple[str, str]) -> None:
    """Each code pair under each name: the right winner or an error, never the other answer."""
    pairs, right = table([("a", "b", "c")] * 8), 0
    for name, (first, second) in itertools.product(NAMES, (*CODES, *WORDS)):
        if means_the_contrary(name, ends, first, second):
            continue
        write = compared(f"response_{ends[0]}", f"response_{ends[1]}", name, first, second)
        path = write_jsonl(tmp_path / "x.jsonl", [write(pair) for pair in pairs])
        try:
            found = read(path, Said())
        except DataError:
            continue
        assert found == wanted(pairs), (name, ends, first, second)
        right += 1
    assert right >= 25


@pytest.mark.parametrize("name", [name for name in FORMS if "as told" not in name])
def test_a_column_that_is_gone_is_missed(tmp_path: Path, name: str) -> None:
    """Without any one column a file is refused, or gives the same pairs; prompts may go only with their own column."""
    pairs, form = table([("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i"), ("j", "k", "l")]), FORMS[name]
    rows = [form.write(pair) for pair in pairs]
    for gone in rows[0]:
        path = write_jsonl(tmp_path / "x.jsonl", [{k: v for k, v in row.items() if k != gone} for row in rows])
        try:
            found = read(path, form.said)
        except DataError:
            continue
        assert found == wanted(pairs), gone

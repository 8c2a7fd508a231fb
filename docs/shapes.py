"""Write the generated part of docs/reference/shapes.md: ``python -m docs.shapes``.

Every shape of foreign files that the tests know is written into an empty folder, its command runs there, and a row says
what came out. What stands above and below the marks is written by hand. tests/test_shapes.py compares the two.
"""

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from kellet.cli.main import main
from tests.helpers import answer_shapes, log_shapes, preference_shapes
from tests.helpers.once_wrong import once_wrong
from tests.helpers.shapes import Shape

PAGE = Path(__file__).parent / "reference/shapes.md"
MARK = "<!-- From here on made from the commands by `python -m docs.shapes`; run it again after a change. -->\n"
END = "<!-- From here on written by hand. -->\n"
CORE = {
    "reward": ("objective/reward",),
    "KL": ("objective/kl_k1", "objective/kl_k3", "objective/kl_per_token"),
    "β": ("objective/kl_coef",),
    "length": ("tokens/response_mean",),
}
USUAL = "is read as k|nats per response are|β is not logged|1 row holds no reward|have no length column"
"""Notes that most files get; docs/reference/shapes.md says them once."""
SHOWN = 420
"""Characters of what a command said, from its beginning."""


class Outcome(NamedTuple):
    """What a command gave."""

    shape: Shape
    code: int
    found: dict[str, Any]
    """Its JSON; empty where it was refused."""
    said: tuple[str, ...]
    """Its warnings and errors."""


def outcome(shape: Shape) -> Outcome:
    """Write the files of a shape into an empty folder, and run its commands there."""
    found: dict[str, Any] = {}
    code, said = 0, []
    with empty_folder() as folder:
        shape.write(folder)
        for command in shape.command.split(" && "):
            result = CliRunner().invoke(main, [*shlex.split(command), "--json"])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            code = result.exit_code
            said += [
                line
                for line in result.stderr.splitlines()
                if re.match("warning: |error: |promote: |not promoted: ", line)
            ]
            found |= json.loads(result.stdout) if result.stdout else {}
    return Outcome(shape, code, found, tuple(said))


@contextmanager
def empty_folder() -> Iterator[Path]:
    """An empty folder, as the working directory."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def gives(result: Outcome) -> list[str]:
    """What came out, in parts."""
    if result.code == 2:
        error = next(line for line in reversed(result.said) if line.startswith("error: "))
        return [f"**refused**: {text(error.removeprefix('error: '))}"]
    if "usable" in result.found:
        return list(of_preferences(result.found))
    if "verdict" in result.found:
        return list(of_gate(result))
    return list(dict.fromkeys(of_import(result.found)))


def of_preferences(found: dict[str, Any]) -> Iterator[str]:
    """How many pairs, and what was taken for what."""
    summary = found["summary"]
    reasons = ", ".join(f"{count} × {reason}" for reason, count in summary["reasons"].items())
    yield f"{summary['accepted']} of {summary['rows_in']} pairs" + f" ({text(reasons)})" * bool(reasons)
    (account,) = found["account"].values()
    taken: dict[str, list[str]] = {}
    for entry in account:
        taken.setdefault(entry["taken_for"] or "", []).append(entry["name"])
    for ours, names in taken.items():
        if ours not in ("", "preferred", "answer_a", "answer_b") and names != [ours]:
            yield f"{ours}: {listed(names)}"
    for entry in account:
        if entry["taken_for"] == "preferred":
            yield f"who won: `{entry['name']}`, {text(entry['why'])}"
    yield from left_out(taken.get("", []))


def of_gate(result: Outcome) -> Iterator[str]:
    """The verdict, and what was told of the file."""
    for line in result.said:
        if line.startswith("warning: ") and not re.search(USUAL, line):
            yield text(line.removeprefix("warning: "))
    found = result.found
    broken = [item["name"] for item in found["criteria"] if item["counted"] and item["passed"] is not True]
    why = f" by {listed(broken)}" if broken else ""
    yield f"**{found['verdict']}**{why}: {text(found['headline'].partition(';')[0])}"


def of_import(found: dict[str, Any]) -> Iterator[str]:
    """How many rows, what was taken for reward, KL, β and length, and what is told."""
    if found["trainer"]:
        yield f"{found['trainer']}, {found['iterations']} iterations"
        taken = {entry["taken_for"]: entry for entry in found["account"] if entry["taken_for"]}
        for word, names in CORE.items():
            for entry in (taken[name] for name in names if name in taken):
                estimator = re.match(r"k\d|full", entry["why"])
                yield f"{word}: `{entry['name']}`" + (f" ({estimator[0]})" if word == "KL" and estimator else "")
    if found["answers"]:
        yield f"{found['answers']} answers"
        for entry in found["account"]:
            if entry["taken_for"] not in (None, entry["name"]) and "/" not in entry["taken_for"]:
                yield f"{entry['taken_for']}: `{entry['name']}`"
    yield from (text(note) for note in found["notes"] if not re.search(USUAL, note))


def left_out(names: list[str]) -> Iterator[str]:
    """The names that were left out, the first of them."""
    if names := list(dict.fromkeys(names)):
        more = f" and {len(names) - 4} more" if len(names) > 5 else ""
        yield f"left out: {listed(names[:4] if more else names)}{more}"


def listed(names: list[str]) -> str:
    """Each name once, as code."""
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def text(words: str) -> str:
    """Words of a program as a cell of a table: on one line, nothing of them markup."""
    short = words if len(words) <= SHOWN else f"{words[:SHOWN].rpartition(' ')[0]} …"
    return re.sub(r"([\\|*_<>\[\]`])", r"\\\1", " ".join(short.split()))


def source(address: str) -> str:
    """A link, where it is an address."""
    if not address:
        return ""
    if address.startswith("https://"):
        return f" ([source]({address}))"
    issue = re.fullmatch(r"(\S+) issue (\d+)", address)
    if issue:
        return f" ([{address}](https://github.com/{issue[1]}/issues/{issue[2]}))"
    file = re.fullmatch(r"(\S+): (\S+)", address)
    return f" ([{file[1]}](https://github.com/{file[1]}/blob/HEAD/{file[2]}))" if file else f" ({address})"


def table(rows: Iterable[tuple[str, Outcome]], alike: bool = False) -> list[str]:
    """A row for each shape; where they are one table in several kinds of files, what the first gives is said once."""
    lines = ["| shape and command | exit | what it gives |", "|---|---|---|"]
    first: list[str] = []
    for name, result in rows:
        parts = gives(result)
        first = first or parts
        if alike and lines[2:] and parts[: len(first)] == first:
            parts = ["the same", *parts[len(first) :]]
        command = result.shape.command.replace("|", "\\|").replace(" && ", "` then `kellet ")
        shown = f"{name}{source(result.shape.source)}<br>`kellet {command}`"
        lines.append(f"| {shown} | {result.code} | {'; '.join(parts)} |")
    return lines


SECTIONS = {
    "Preferences: forms": preference_shapes.forms,
    "Preferences: what has to be asked, and what holds no pairs": preference_shapes.readings,
    "Preferences: kinds of files": preference_shapes.kinds,
    "Evaluations": answer_shapes.evaluations,
    "Samples": answer_shapes.dumps,
    "Logs: trainers": log_shapes.trainers,
    "Logs: kinds of files": log_shapes.kinds,
    "Logs: odd ones": log_shapes.odd,
}
WRONG = "Nineteen kinds that were read wrongly"


def outcomes() -> dict[str, list[tuple[str, Outcome]]]:
    """What every command gives, by section of the page."""
    wrong = [
        (f"{kind}: {shape.name}" if shape.name else kind, outcome(shape))
        for kind, shapes in once_wrong().items()
        for shape in shapes
    ]
    rest = {title: [(shape.name, outcome(shape)) for shape in shapes()] for title, shapes in SECTIONS.items()}
    return {WRONG: wrong, **rest}


def generated(found: dict[str, list[tuple[str, Outcome]]]) -> str:
    """The tables."""
    parts = [["", f"## {title}", *table(rows, "kinds of files" in title)] for title, rows in found.items()]
    return "\n".join(line for part in parts for line in part) + "\n"


def page(found: dict[str, list[tuple[str, Outcome]]]) -> str:
    """The page as it should be: what is written by hand, and between the marks what the commands give."""
    above, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    _, end, below = rest.partition(END)
    return above + mark + generated(found) + "\n" + end + below


if __name__ == "__main__":
    PAGE.write_text(page(outcomes()), encoding="utf-8")

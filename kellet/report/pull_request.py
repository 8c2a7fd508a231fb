"""The gate's decision for a pull request: a comment in Markdown, commands of GitHub Actions, JUnit XML.

All three are made from gate.json. What may come from a file (names of judges, of the evaluation) is escaped for each:
no text can end a table's cell, begin a command or close an element. GitHub's runner takes a line that begins with
``::``, and ``##[`` anywhere in a line, for a command (actions/runner, ActionCommand.cs); values are escaped as
actions/toolkit does. JUnit has no schema of its own; what is written here is what GitLab and Jenkins read: testsuites,
testsuite, testcase with name and classname, failure, skipped.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree as ET

from kellet.markdown import CONTROL, plain
from kellet.report.judgements import CHECKS, QUESTIONS
from kellet.stats.format import in_words, number

State = Literal["pass", "fail", "not shown", "not counted"]
WORDS = {"pass": "pass", "fail": "**FAIL**", "not shown": "?", "not counted": "–"}
MARKER = "<!-- kellet gate -->"
"""First line of the comment, by which a job finds the one it wrote before."""
COMPARISONS = {
    "comparison_with_champion": "Is it not shown worse than the champion?",
    "comparison_with_anchor": "Is it not behind the anchor by more than the margin?",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Outcome(NamedTuple):
    """A criterion, or the comparison with champion or anchor, as a line of a report."""

    name: str
    question: str
    state: State
    figure: str
    """What was measured, its value and interval; empty where nothing was."""
    wanted: str
    why: str


def outcomes(decision: Mapping[str, Any]) -> list[Outcome]:
    """Every criterion of gate.json, and after them champion and anchor where they were compared."""
    rows = [_outcome(item, _state(item["passed"], item["counted"]), item["checks"]) for item in decision["criteria"]]
    if versus := decision.get("comparison_with_champion"):
        state: State = "fail" if versus["shown_worse"] else "pass"
        why = " ".join(check["why"] for check in (versus["reward_gain"], *versus["checks"]))
        item = {"name": "comparison_with_champion", "why": why}
        checks = versus["checks"] if versus["shown_worse"] else [versus["reward_gain"]]
        rows.append(_outcome(item, state, checks)._replace(wanted="not shown worse"))
    if anchor := decision.get("comparison_with_anchor"):
        check = anchor["not_behind"]
        item = {"name": "comparison_with_anchor", "why": check["why"]}
        rows.append(_outcome(item, _state(check["passed"], counted=True), [check]))
    return rows


def markdown(decision: Mapping[str, Any], name: str) -> str:
    """A comment for a pull request: verdict, one row for each criterion, length, judges, which look it was."""
    rows = [
        "| " + " | ".join([WORDS[row.state], *map(plain, (row.name, row.question, row.figure, row.wanted))]) + " |"
        for row in outcomes(decision)
    ]
    lines = [
        MARKER,
        f"### Kellet gate: {decision['verdict']}",
        "",
        f"{plain(name)}: {plain(decision['headline'])}.",
        "",
        "| | criterion | question | value and interval | wanted |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"**Length.** {plain(decision['length']['sentence'])}",
        "",
        f"**Judges.** {plain(_judges(decision))}",
        "",
        f"**Look.** {plain(decision['programme']['sentence'])}",
    ]
    return "\n".join(lines) + "\n"


def workflow_commands(decision: Mapping[str, Any], name: str) -> str:
    """Annotations of GitHub Actions: the verdict, an error for what is violated, a warning for what is not shown."""
    kinds: dict[str, str] = {"fail": "error", "not shown": "warning"}
    verdict = {"promote": "notice", "block": "error"}.get(decision["verdict"], "warning")
    lines = [_command(verdict, f"kellet gate: {decision['verdict']}", f"{name}: {decision['headline']}")]
    lines += [
        _command(kinds[row.state], f"kellet gate: {row.name}", row.why)
        for row in outcomes(decision)
        if row.state in kinds
    ]
    return "\n".join(lines) + "\n"


def junit(decision: Mapping[str, Any], name: str) -> str:
    """One test suite, a test case for each criterion: failure where it is violated, skipped where it is not shown."""
    rows = outcomes(decision)
    failed, skipped = (sum(row.state in states for row in rows) for states in (("fail",), ("not shown", "not counted")))
    counts = {"tests": str(len(rows)), "failures": str(failed), "errors": "0", "skipped": str(skipped), "time": "0"}
    root = ET.Element("testsuites", {"name": "kellet gate", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": _xml(f"kellet gate {name}"), **counts})
    facts = ET.SubElement(suite, "properties")
    for key, value in (("verdict", decision["verdict"]), ("headline", decision["headline"])):
        ET.SubElement(facts, "property", {"name": key, "value": _xml(value)})
    for row in rows:
        case = ET.SubElement(suite, "testcase", {"name": _xml(row.name), "classname": "kellet.gate", "time": "0"})
        if row.state == "fail":
            ET.SubElement(case, "failure", {"message": _xml(row.why), "type": "violated"}).text = _xml(row.why)
        elif row.state != "pass":
            ET.SubElement(case, "skipped", {"message": _xml(f"{row.state}: {row.why}")})
        ET.SubElement(case, "system-out").text = _xml(f"{row.question} {row.why}")
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode").replace("##[", "#&#35;[")  # the same text, and no command
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def harmless(text: str) -> str:
    """``text`` on one line, without what GitHub's runner takes for a command or a terminal for a control sequence."""
    return CONTROL.sub(" ", text).replace("##[", "## [")


def harmless_json(value: Any) -> str:
    """``value`` as JSON of which no text is a command of GitHub's runner; what it says is the same."""
    return json.dumps(value, indent=2, ensure_ascii=False).replace("##[", "\\u0023#[")


def _state(passed: bool | None, counted: bool) -> State:
    if not counted:
        return "not counted"
    return "not shown" if passed is None else "pass" if passed else "fail"


def _outcome(item: Mapping[str, Any], state: State, checks: Sequence[Mapping[str, Any]]) -> Outcome:
    """With the check that decided: the first that is as the whole is (as Criterion.deciding)."""
    wanted = {"fail": False, "not shown": None}.get(state, True)
    check = next((one for one in checks if one["passed"] is wanted), checks[0] if checks else None)
    figure = limit = ""
    if check is not None:
        limit = f"{check['direction']} {number(check['threshold'], check['unit'])}"
        subject = {**CHECKS, "anchor_margin": "mean reward gain"}.get(check["name"], check["name"].replace("_", " "))
        told = check["value"] is not None and check["interval"]
        figure = (
            f"{subject} {in_words(check, check['unit'], missing='unbounded')}" if told else f"{subject}: cannot tell"
        )
    question = {**QUESTIONS, **COMPARISONS}.get(item["name"], item["name"].replace("_", " "))
    return Outcome(item["name"], question, state, figure, limit, item["why"])


def _judges(decision: Mapping[str, Any]) -> str:
    found = [
        f"{name} prefers the candidate in {in_words(figures['win_rate'], 'win rate')} of comparisons"
        + (" (the judge that counts)" if name == decision["config"]["judge"] else "")
        for name, figures in decision["judges"].items()
    ]
    return "; ".join(found) + "." if found else "None in the file: nobody says whether the answers make sense."


def _command(kind: str, title: str, message: str) -> str:
    data = harmless(message).replace("%", "%25")
    prop = harmless(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={prop}::{data}"


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold, which are written as Python would."""
    return _NOT_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)

"""The gate's decision for a pull request: the same decision in each form, and no text in it is more than text."""

import copy
import re
from functools import cache
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.config.judgement import Gate
from kellet.gate.verdict import decide
from kellet.report.pull_request import MARKER, junit, markdown, outcomes, workflow_commands
from tests.helpers.evaluations import evaluation

KINDS = {
    "promote": {"gain": 1.0},
    "block": {"gain": 1.0, "longer": 20.0},
    "inconclusive": {"gain": 0.0},
    "worse than the champion": {"gain": 1.0, "champion_gain": 4.0},
}


@cache
def decision(kind):
    return decide(evaluation(120, judged=60, **KINDS[kind]), Gate(resamples=200)).to_dict()


def suite_of(text):
    root = ET.fromstring(text)  # noqa: S314 -- our own
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


@pytest.mark.parametrize("kind", KINDS)
def test_junit_counts_what_gate_json_has(kind):
    found = decision(kind)
    suite = suite_of(junit(found, "e.csv"))
    cases = suite.findall("testcase")
    named = [item["name"] for item in found["criteria"]]
    named += [name for name in ("comparison_with_champion", "comparison_with_anchor") if found[name]]
    assert [case.get("name") for case in cases] == named
    for attribute, tag in (("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
        assert int(suite.get(attribute)) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.get("tests")) == len(cases)
    by_name = {case.get("name"): case for case in cases}
    for item in found["criteria"]:
        case = by_name[item["name"]]
        assert (case.find("failure") is not None) == (item["counted"] and item["passed"] is False)
        assert (case.find("skipped") is None) == (item["counted"] and item["passed"] is not None)
        if not item["counted"]:
            assert case.find("skipped").get("message").startswith("not counted: ")
    assert bool(suite.findall(".//failure")) == (found["verdict"] == "block")


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_says_the_verdict(kind):
    found = decision(kind)
    wanted = "block" if kind == "worse than the champion" else kind
    assert found["verdict"] == wanted
    level = {"promote": "notice", "block": "error", "inconclusive": "warning"}[wanted]
    first, *others = workflow_commands(found, "e.csv").splitlines()
    assert first.startswith(f"::{level} title=kellet gate%3A {wanted}::e.csv: ")
    states = [row.state for row in outcomes(found)]
    assert [line.split(" ")[0] for line in others] == [
        {"fail": "::error", "not shown": "::warning"}[state] for state in states if state in ("fail", "not shown")
    ]
    counted = [item["passed"] for item in found["criteria"] if item["counted"]]
    assert sum(line.startswith("::warning") for line in others) == counted.count(None)
    comment = markdown(found, "e.csv")
    assert f"### Kellet gate: {wanted}\n" in comment
    assert comment.count("| **FAIL** |") == states.count("fail")
    assert comment.count("| pass |") == states.count("pass")


def test_the_comment_has_value_interval_and_threshold():
    found = decision("block")
    (row,) = [line for line in markdown(found, "e.csv").splitlines() if "length\\_inflation |" in line]
    item = next(item for item in found["criteria"] if item["name"] == "length_inflation")
    figures = [f"{number:.3f}" for number in (item["value"], *item["interval"], item["threshold"])]
    assert re.findall(r"\d\.\d{3}", row) == figures
    assert "at most 1.100" in row


# ---- what a file holds is text

PIECES = "::error::x ##[error] | ` <b> <!-- ]]> & @team #12 %0A \\ [x](y) https://a.b www.a.b title=a,b:c $x$ ~~ _ *"
CONTROL = ("\n", "\r", "\x00", "\x1b[2J", "\ufffe", "\ud83d", "\u2028", "\u202e")
NASTY = st.text(max_size=30) | st.lists(st.sampled_from([*PIECES.split(), *CONTROL]), max_size=5).map("".join)


def with_texts(text):
    """A decision in which everything that could come from a file is ``text``."""
    found = copy.deepcopy(decision("inconclusive"))
    found["headline"] = text
    found["judges"] = {text: next(iter(decision("inconclusive")["judges"].values()))}
    found["length"]["sentence"] = found["programme"]["sentence"] = text
    for item in found["criteria"]:
        item["why"] = text
    return found


def command(line):
    """What actions/runner takes a line for (ActionCommand.cs): (name, properties, data), or None."""
    if line.lstrip().startswith("::"):
        head, found, data = line.lstrip()[2:].partition("::")
        if found:
            name, _, rest = head.partition(" ")
            properties = dict(part.split("=", 1) for part in rest.split(",") if part)
            return name, {key: unescaped(value, "%3A:", "%2C,") for key, value in properties.items()}, unescaped(data)
    return ("legacy", {}, line) if "##[" in line else None


def unescaped(text, *more):
    for pair in ("%0D\r", "%0A\n", *more):
        text = text.replace(pair[:3], pair[3:])
    return text.replace("%25", "%")


@settings(max_examples=80, deadline=None)
@given(NASTY)
def test_no_text_is_a_command_of_githubs_runner(text):
    found = with_texts(text)
    before = workflow_commands(decision("inconclusive"), "e.csv").splitlines()
    lines = re.split(r"\r\n|\r|\n", workflow_commands(found, text).removesuffix("\n"))
    parsed = [command(line) for line in lines]
    assert [(name, told["title"]) for name, told, _ in parsed] == [
        (name, told["title"]) for name, told, _ in map(command, before)
    ]
    assert "##[" not in "".join(lines)
    if text.isprintable() and "##[" not in text:
        assert [data for _, _, data in parsed] == [f"{text}: {text}", *[text] * (len(parsed) - 1)]


@settings(max_examples=80, deadline=None)
@given(NASTY)
def test_any_text_is_valid_xml(text):
    suite = suite_of(junit(with_texts(text), text).encode())
    assert suite.get("skipped") == suite_of(junit(decision("inconclusive"), "e")).get("skipped")
    if text.isprintable():
        assert suite.find("properties/property[@name='headline']").get("value") == text


@settings(max_examples=80, deadline=None)
@given(NASTY)
def test_no_text_leaves_its_place_in_markdown(text):
    before, after = (
        markdown(found, name).split("\n") for found, name in ((decision("inconclusive"), "e"), (with_texts(text), text))
    )
    assert len(after) == len(before)
    assert after[0] == MARKER
    for whole in after[1:]:
        line = whole.replace("&#8203;", "\u200b")  # invisible, and what is before it is no beginning of a link
        assert "<" not in line
        assert not re.search(r"[@#]\w|://\w|www\.\w|##\[", line)
        assert not re.search(r"(?<!\\)(\\\\)*[`\[~$]", line)
    for one, other in zip(before, after, strict=True):
        cells = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in (one, other)]
        assert cells[0] == cells[1]

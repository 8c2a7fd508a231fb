"""docs/reference/shapes.md says what the commands give, and no shape's labels are turned round."""

import pytest

from docs.shapes import PAGE, WRONG, outcomes, page, text
from tests.helpers.shapes import LONGER


@pytest.fixture(scope="module")
def found():
    return outcomes()


def test_the_page_is_what_the_commands_give(found):
    assert PAGE.read_text(encoding="utf-8") == page(found), "run: python -m docs.shapes"


def test_no_shape_of_preferences_is_read_the_other_way_round(found):
    """The better answer is the longer one in 60% of what is written; turned round it would be 40%."""
    read = {
        f"{section}: {name}": result.found["summary"]["longer_preferred"]["share"]
        for section, rows in found.items()
        for name, result in rows
        if result.found.get("usable")
    }
    assert len(read) > 70
    assert {name: share for name, share in read.items() if abs(share - LONGER) > 0.02} == {}


def test_there_are_nineteen_kinds_and_each_command_ends_clearly(found):
    assert len({name.partition(":")[0] for name, _ in found[WRONG]}) == 19
    assert {result.code for rows in found.values() for _, result in rows} == {0, 2, 3}
    assert all(
        any(line.startswith("error: ") for line in r.said) == (r.code == 2) for rows in found.values() for _, r in rows
    )


def test_the_lists_and_their_twin_have_one_verdict(found):
    """A list of 10 lines with two words each is 20 words against 12: two thirds longer, in CSV as in JSON lines."""
    one, other = (result for name, result in found[WRONG] if name.startswith("answers that are lists"))
    assert one.code == other.code == 3
    assert one.found["headline"] == other.found["headline"]
    assert "length rose 67%" in one.found["headline"]


def test_what_a_program_says_is_no_markup():
    assert text("a|b *c* <d>\n`e`") == r"a\|b \*c\* \<d\> \`e\`"

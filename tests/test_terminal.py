"""What reaches a terminal: no sequence of a foreign file does."""

import json

import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.terminal import harmless_text

HARM = "\x1b[2J\x9b3m\u202e\u2066\u2028\r\x07"


def test_escapes_are_worked_by_hand_and_json_reads_them_back():
    assert harmless_text("a\x1b[2J\x9b\u202eb\r\n\té\U000e0041") == ("a\\x1b[2J\\u009b\\u202eb\\x0d\n\té\\udb40\\udc41")
    text = "\x7f\x9b\u202e\u2028\U000e0041"
    assert json.loads(harmless_text(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("verb", ["validate", "gate", "diagnose", "import-logs"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_verb_prints_a_sequence_of_a_file(verb, form, tmp_path):
    file = tmp_path / f"a{HARM.replace('/', '')}.jsonl"
    row = {f"prompt{HARM}": HARM, "chosen": f"yes {HARM}", "system": HARM}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    done = CliRunner().invoke(main, [verb, str(file), *(["--json"] if form == "json" else [])])
    assert done.exit_code == 2
    assert done.output
    for text in (done.stdout, done.stderr):
        assert not [letter for letter in text if letter != "\n" and letter in HARM.replace("[2J", "").replace("3m", "")]

"""No credential of an address, an option or a header is left in what is shown; what leads to the place stays."""

import json
import logging

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kellet.cli.main import main
from kellet.config.file import dump_config, load_config
from kellet.config.run import Config
from kellet.errors import InputError
from kellet.markdown import code, plain
from kellet.mask import is_masked, masked, masked_values
from kellet.report import compare, sources
from kellet.terminal import harmless_logs

PASSWORDS = ["se/cret", "p@ss", "a:b", "p?w#x", "x&y=z", "%40%2F", "pässwört", "p@s/s:w@rd", "'q\"", "://", "***"]
URIS = "postgresql+psycopg://user:{}@db.example:5432/mlflow"


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("around", ["{}", "cannot read '{}'; give another", '{{"uri":"{}"}}', "(see {}), then"])
def test_an_address_keeps_its_place_and_loses_its_password(password, around):
    text = masked(around.format(URIS.format(password)))
    assert text == around.format("postgresql+psycopg://***@db.example:5432/mlflow")
    assert masked(text) == text


@given(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1).filter(lambda text: "/" not in text[0]))
def test_whatever_the_user_and_password_are(secret):
    assert masked(f"at https://{secret}@host/path next") == "at https://***@host/path next"
    assert masked_values({"uri": f"redis://:{secret} {secret}@host"}) == {"uri": "redis://***@host"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/?a=1&token=SECRET&b=2", "https://h/?a=1&token=***&b=2"),
        ("https://h/?X-Amz-Signature=SECRET", "https://h/?X-Amz-Signature=***"),
        ("https://h/?AWSAccessKeyId=SECRET;x=1", "https://h/?AWSAccessKeyId=***;x=1"),
        ("url: /api?api_key=SEC'RET (retrying)", "url: /api?api_key=*** (retrying)"),
        ("'https://h/c?sv=1&sig=SECRET%3D'); next", "'https://h/c?sv=1&sig=***'); next"),
        ("https://h/#access_token=SECRET", "https://h/#access_token=***"),
        ("https://h/?%74oken=SECRET", "https://h/?%74oken=***"),
        ("https://h/?next=postgres%3A%2F%2Fu%3ASECRET%40h", "https://h/?next=***"),
        ("host=h password='SEC RET' user=u", "host=h password=*** user=u"),
        ('{"password": "SECRET", "user": "u"}', '{"password": ***, "user": "u"}'),
        ("Authorization: Bearer SECRET", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic SECRET=='}", "{'Authorization': 'Basic ***'}"),
        ("postgresql:///db?user=u&password=SEC@RET", "postgresql:///db?user=u&password=***"),
        ("jdbc:postgresql://u:SECRET@h,postgres://u:SECRET@h2", "jdbc:postgresql://***@h2"),
    ],
)
def test_what_else_looks_like_a_secret(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/mlflow.db",
        "file:///data/a@b.csv",
        "https://example.com/a/b?page=2#top",
        "text.max_prompt_tokens: 96",
        "ask a@b.example",
        "p = 0.05; q=3",
        "the token is </s>",
        "",
    ],
)
def test_what_is_none_stays(text):
    assert masked(text) == text


def test_long_text_is_masked_in_time_that_grows_with_it():
    for text in ("a://" * 200_000, "?a=" * 200_000, "password" * 100_000, "@" * 500_000, "&k='\"" * 150_000):
        masked(text)  # quadratic time would be hours


HELD = "s3cr/t@x:y"
CONFIG = Config.model_validate({"tracking": {"uri": URIS.format(HELD), "ledger": URIS.format(HELD)}})


def test_no_way_out_of_a_configuration_shows_a_password(tmp_path):
    """params.yaml of runs, arms and MLflow, the pages of reports and comparisons, error lines."""
    written = dump_config(CONFIG)
    (tmp_path / "params.yaml").write_text(written)
    again = load_config(tmp_path / "params.yaml")
    assert is_masked(again.tracking.uri)
    assert dump_config(again) == written
    other = CONFIG.model_dump(mode="json") | {"base_model": {"path": URIS.format(HELD)}}
    shown = [
        written,
        sources.masked(CONFIG.model_dump(mode="json")),
        str(sources.differing(other, Config().model_dump(mode="json"))),
        str(compare.differing([other, Config().model_dump(mode="json")])),
        str(InputError(f"cannot reach {URIS.format(HELD)}: no route")),
        repr(InputError(f"cannot reach {URIS.format(HELD)}: no route")),
    ]
    for text in shown:
        assert "db.example:5432" in text
        assert "s3cr" not in text
        assert "x:y" not in text


def test_an_error_line_of_a_verb_shows_none(tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tracking": {"uri": [URIS.format(HELD)]}}))
    with pytest.raises(SystemExit) as done:
        main(["ledger", "--params", str(tmp_path / "params.yaml")])
    assert done.value.code == 2
    said = capsys.readouterr().err
    assert "tracking.uri" in said
    assert "***@db.example" in said
    assert "s3cr" not in said


def test_a_hidden_address_is_told_before_it_is_used(tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(dump_config(CONFIG))
    with pytest.raises(SystemExit):
        main(["ledger", "--params", str(tmp_path / "params.yaml")])
    assert "are hidden; give the address with --set tracking.ledger=" in capsys.readouterr().err


def test_log_records_of_any_library_are_masked_and_harmless(caplog):
    before = logging.getLogRecordFactory()
    try:
        harmless_logs()
        harmless_logs()  # twice is once
        log = logging.getLogger("somebody.elses")
        log.warning("cannot reach %s \x1b[2J", URIS.format(HELD))
        try:
            {}[f"no route to {URIS.format(HELD)} \u202e"]
        except KeyError:
            log.exception("failed")
    finally:
        logging.setLogRecordFactory(before)
    assert "cannot reach postgresql+psycopg://***@db.example:5432/mlflow \\x1b[2J" in caplog.text
    assert "KeyError: 'no route to postgresql+psycopg://***@db.example:5432/mlflow \\u202e" in caplog.text
    assert "s3cr" not in caplog.text
    assert caplog.records[0].getMessage().endswith("\\x1b[2J")


def test_markdown_shows_text_as_it_is():
    hostile = "# x\n| a | [b](http://c) <img src=x> @d *e* `f` &lt;"
    shown = plain(hostile)
    assert "\n" not in shown
    assert shown == (
        "#&#8203; x \\| a \\| \\[b\\](http://&#8203;c) &lt;img src=x&gt; @&#8203;d \\*e\\* \\`f\\` &amp;lt;"
    )
    assert plain("- a").startswith("&#8203;-")
    assert plain("1. a").startswith("&#8203;1")
    assert plain("a - b 1.5") == "a - b 1.5"
    assert code("a`b|c\nd") == "`a'b/c d`"


def test_numbers_and_nesting_stay():
    values = {"a": 1, "b": [None, True, 2.5, "x"], "c": {"d": "https://u:p@h"}}
    assert masked_values(values) == {"a": 1, "b": [None, True, 2.5, "x"], "c": {"d": "https://***@h"}}
    assert json.dumps(values)

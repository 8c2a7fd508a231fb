"""Who is champion, by the ledger, on a real MLflow registry in SQLite: after kills, edited tags, races."""

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters import promotion, registered, rivals
from adapters.artefacts import Artefact
from kellet.config.run import Config
from kellet.errors import InputError
from kellet.files import write_json
from kellet.ledger.table import Ledger
from tasks.registry import require_rivals


@pytest.fixture
def config(tracking):
    return Config.model_validate({"tracking": tracking})


@pytest.fixture
def rows(config):
    """The rows of the ledger as (action, version, before, after, anchor)."""

    def read():
        found = Ledger(config.tracking.ledger).entries()
        return [(row.action, row.version, row.before, row.after, row.anchor) for row in found]

    return read


@pytest.mark.parametrize("verdict", ["block", "inconclusive"])
def test_only_a_promoted_version_becomes_champion(config, add, aliases, rows, verdict):
    promotion.promote(config.tracking, add("a", verdict))
    assert aliases() == {}
    assert rows() == [("verdict", "1", "none", verdict, "none")]


def test_the_champion_before_becomes_previous(config, add, aliases, rows):
    promotion.promote(config.tracking, add("a"))
    assert aliases() == {"champion": "1", "anchor": "1"}
    promotion.promote(config.tracking, add("b"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    assert rows()[1::2] == [("promote", "1", "none", "1", "1"), ("promote", "2", "1", "2", "1")]


@pytest.mark.parametrize("tag", ["promote", "block"])
def test_a_verdict_edited_by_hand_decides_nothing(config, client, add, aliases, tag):
    name = config.tracking.registered_model
    promotion.promote(config.tracking, add("a"))
    add("b", "inconclusive")
    client.set_model_version_tag(name, "2", "verdict", tag)
    promotion.promote(config.tracking, client.get_model_version(name, "2"))
    with pytest.raises(InputError, match=r"the gate said inconclusive of .*/2"):
        promotion.roll_back(config.tracking, "why", 2)
    assert aliases()["champion"] == "1"
    client.set_model_version_tag(name, "1", "verdict", "block")
    assert "is champion already" in promotion.roll_back(config.tracking, "why", 1)


def test_a_version_that_the_ledger_does_not_know_is_not_promoted_by_its_tags(config, client, add, aliases, tmp_path):
    add("a")
    name = config.tracking.registered_model
    tags = {**client.get_model_version(name, "1").tags, "retraining_key": "forged"}
    forged = client.create_model_version(name, str(tmp_path), tags=tags)
    promotion.promote(config.tracking, forged)
    with pytest.raises(InputError, match=r"the ledger has no verdict of .*/2"):
        promotion.roll_back(config.tracking, "why", 2)
    assert aliases() == {}


@pytest.mark.parametrize("file", ["gate.json", "evaluation.parquet"])
def test_a_verdict_whose_files_were_changed_since_promotes_nothing(config, add, aliases, tmp_path, file):
    version = add("a")
    path = tmp_path / "reports/a" / file
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    with pytest.raises(InputError, match=rf"{file} of .*/1 is [0-9a-f]{{12}}, .* rests on [0-9a-f]{{12}}"):
        promotion.promote(config.tracking, version)
    path.unlink()
    with pytest.raises(InputError, match=rf"{file} of .*/1 is nothing"):
        promotion.promote(config.tracking, version)
    assert aliases() == {}
    path.write_bytes(before)
    promotion.promote(config.tracking, version)
    assert aliases()["champion"] == "1"


def test_a_version_with_the_policy_of_another_is_not_promoted(config, client, add, aliases):
    add("a")
    client.set_model_version_tag(config.tracking.registered_model, "1", "policy_hash", "other")
    version = client.get_model_version(config.tracking.registered_model, "1")
    with pytest.raises(InputError, match=r"the tag policy_hash of .*/1 is other, .* rests on a"):
        promotion.promote(config.tracking, version)
    assert aliases() == {}


@pytest.mark.parametrize("better", [True, False])
@pytest.mark.parametrize("done", range(5))
def test_promotion_repeated_after_a_kill_at_any_point(config, client, add, aliases, rows, monkeypatch, better, done):
    """The row is first, champion moves last of the aliases, and the tags that say so come after it."""
    promotion.promote(config.tracking, add("a"))
    add("b", better=better)
    monkeypatch.setattr(promotion, "client", lambda _: client)
    left = iter(range(done))

    def die(*given, write):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(*given)

    with monkeypatch.context() as killed:
        for name in ("set_registered_model_alias", "set_model_version_tag"):
            killed.setattr(client, name, functools.partial(die, write=getattr(client, name)))
        with pytest.raises(KeyboardInterrupt) if done < 4 + better else contextlib.nullcontext():
            promotion.promote(config.tracking, registered.find_version(config.tracking, "b"))
    anchor = "2" if better else "1"
    assert rows()[-1] == ("promote", "2", "1", "2", anchor)
    assert aliases()["champion"] == ("2" if done >= 2 + better else "1")
    promotion.promote(config.tracking, registered.find_version(config.tracking, "b"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": anchor}
    tags = client.get_model_version(config.tracking.registered_model, "2").tags
    assert (tags["anchor"], "promoted_at" in tags) == (anchor, True)
    assert len(rows()) == 4


def test_a_kill_before_the_tag_and_a_rollback_do_not_bring_a_champion_back(config, client, add, aliases, monkeypatch):
    """The alias moved, the tag was not written; then a rollback, then the same retraining again."""
    promotion.promote(config.tracking, add("a"))
    version = add("b")
    monkeypatch.setattr(promotion, "_label", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        promotion.promote(config.tracking, version)
    monkeypatch.undo()
    assert aliases()["champion"] == "2"
    promotion.roll_back(config.tracking, "bad")
    assert aliases()["champion"] == "1"
    promotion.promote(config.tracking, registered.find_version(config.tracking, "b"))
    assert aliases()["champion"] == "1"


def test_what_a_kill_left_undone_is_ended_before_the_next_candidate_is_compared(config, add, aliases, monkeypatch):
    promotion.promote(config.tracking, add("a"))
    monkeypatch.setattr(promotion, "settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        promotion.promote(config.tracking, add("b"))
    monkeypatch.undo()
    monkeypatch.setattr(rivals, "fetch", lambda *_: None)  # no files were uploaded
    assert aliases()["champion"] == "1"
    require_rivals.fn(config, {"retraining_key": "another"})
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}


def test_another_host_that_moves_the_alias_meanwhile_is_nobodys_hand(config, add, aliases, monkeypatch):
    """Two moves of another host between the rows and the aliases that this one reads."""
    for key in "ab":
        promotion.promote(config.tracking, add(key))
    original, calls = promotion.aliases, []

    def after_two_moves(tracking):
        if not calls:
            calls.append("once")
            promotion.roll_back(tracking, "bad")
            promotion.promote(tracking, add("c"))
        return original(tracking)

    monkeypatch.setattr(promotion, "aliases", after_two_moves)
    promotion.settle(config.tracking)
    assert aliases() == {"champion": "3", "previous": "1", "anchor": "1"}


def test_a_version_that_was_replaced_does_not_come_back(config, add, aliases):
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))
    promotion.promote(config.tracking, registered.find_version(config.tracking, "a"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}


def test_of_two_that_were_compared_with_the_same_champion_one_is_promoted(config, add, aliases, rows):
    promotion.promote(config.tracking, add("a"))
    versions = [add(key, compared="1") for key in "bcdef"]

    def attempt(version):
        try:
            promotion.promote(config.tracking, version)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(versions)) as hosts:
        said = list(hosts.map(attempt, versions))
    assert said.count("") == 1
    winner = str(versions[said.index("")].version)
    assert all("was compared with champion 1, and the champion is" in text for text in said if text)
    assert [row[1] for row in rows() if row[0] == "promote"] == ["1", winner]
    assert aliases()["champion"] == winner


def test_a_rollback_in_the_middle_of_a_promotion_leaves_what_the_ledger_says(config, add, aliases, monkeypatch):
    """Another host takes the champion back between this one's row and its alias."""
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))
    version, original = add("c"), promotion._set
    calls = []

    def interrupted(*given):
        if not calls:
            calls.append("once")
            promotion.roll_back(config.tracking, "bad")
        original(*given)

    monkeypatch.setattr(promotion, "_set", interrupted)
    promotion.promote(config.tracking, version)
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}


def test_a_comparison_holds_while_the_champion_is_the_one_compared_with(config, client, add):
    promotion.require_current(config.tracking, add("a"))  # compared with none, and there is none
    promotion.promote(config.tracking, add("b"))
    version = add("c", compared="none")
    message = r"/3 was compared with champion none, and the champion is 2 now"
    with pytest.raises(InputError, match=message):
        promotion.require_current(config.tracking, version)
    with pytest.raises(InputError, match=message):
        promotion.promote(config.tracking, version)
    promotion.require_current(config.tracking, add("d"))
    promotion.require_current(config.tracking, client.get_model_version(config.tracking.registered_model, "2"))


def test_a_version_that_was_taken_back_is_not_promoted_by_people(config, client, add):
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))
    promotion.roll_back(config.tracking, "why")
    with pytest.raises(InputError, match=r"/2 was champion before.*flows.rollback --to 2"):
        promotion.require_current(config.tracking, client.get_model_version(config.tracking.registered_model, "2"))


def test_a_rollback_gives_champion_back_with_its_reason(config, client, add, aliases, rows):
    name = config.tracking.registered_model
    with pytest.raises(InputError, match=r"no version of .* was champion before this one; name the version with --to"):
        promotion.roll_back(config.tracking, "why")
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))
    add("c", "block")
    with pytest.raises(InputError, match=r"the gate said block of .*/3"):
        promotion.roll_back(config.tracking, "why", 3)
    with pytest.raises(InputError, match=r"/9 is not registered"):
        promotion.roll_back(config.tracking, "why", 9)
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    assert promotion.roll_back(config.tracking, "too long").endswith("/1 is champion in place of version 2: too long")
    assert aliases() == {"champion": "1", "anchor": "1"}  # nothing was champion before version 1
    assert rows()[-1] == ("roll back", "1", "2", "1", "1")
    assert client.get_model_version(name, "2").tags["rolled_back"].endswith(", to version 1: too long")
    assert client.get_model_version(name, "1").tags["rolled_back_to"].endswith(", from version 2: too long")
    assert "nothing was changed" in promotion.roll_back(config.tracking, "too long", 1)
    promotion.roll_back(config.tracking, "drill", 3, force=True)
    assert aliases() == {"champion": "3", "anchor": "3"}  # no champion by the gate: its own anchor


def test_what_was_taken_back_is_no_place_to_go_back_to(config, add, aliases):
    for key in "abc":
        promotion.promote(config.tracking, add(key))
    promotion.roll_back(config.tracking, "bad")  # 3 to 2
    promotion.promote(config.tracking, add("d"))
    assert aliases()["previous"] == "2"
    promotion.roll_back(config.tracking, "bad")  # 4 to 2, not to 3
    promotion.roll_back(config.tracking, "bad too")
    assert aliases() == {"champion": "1", "anchor": "1"}
    with pytest.raises(InputError, match="was champion before this one"):
        promotion.roll_back(config.tracking, "and this")


def test_an_alias_that_was_moved_by_hand_is_named_and_nothing_follows_it(config, client, add, aliases, rows):
    name = config.tracking.registered_model
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))
    add("c", "block")
    client.set_registered_model_alias(name, "champion", "3")
    version = add("d", compared="2")
    for work in (promotion.promote, promotion.require_current):
        with pytest.raises(InputError, match=r"on version 3, and by the ledger 2 is champion \(row 4\): .* by hand"):
            work(config.tracking, version)
    assert aliases()["champion"] == "3"
    assert promotion.roll_back(config.tracking, "who did this?", 2).startswith(f"{name}/2 is champion in place of")
    assert aliases()["champion"] == "2"
    assert rows()[-1][:4] == ("roll back", "2", "3", "2")
    promotion.promote(config.tracking, version)
    assert aliases()["champion"] == "4"


def test_an_alias_that_is_gone_is_put_back(config, client, add, aliases):
    version = add("a")
    promotion.promote(config.tracking, version)
    client.delete_registered_model_alias(config.tracking.registered_model, "champion")
    promotion.settle(config.tracking)
    assert aliases() == {"champion": "1", "anchor": "1"}


def test_the_anchor_is_the_champion_of_an_older_registry_until_something_is_shown_better(config, client, add, aliases):
    """Version 1 became champion before there were anchors and a ledger."""
    add("a")
    client.set_registered_model_alias(config.tracking.registered_model, "champion", "1")
    promotion.promote(config.tracking, add("b"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    promotion.promote(config.tracking, add("c"))
    assert aliases() == {"champion": "3", "previous": "2", "anchor": "1"}
    promotion.promote(config.tracking, add("d", better=True))
    assert aliases() == {"champion": "4", "previous": "3", "anchor": "4"}


def test_a_rollback_takes_the_anchor_of_that_time_back(config, client, add, aliases):
    promotion.promote(config.tracking, add("a"))
    promotion.promote(config.tracking, add("b"))  # not shown better: the anchor is version 1
    promotion.promote(config.tracking, add("c", better=True))
    assert aliases() == {"champion": "3", "previous": "2", "anchor": "3"}
    promotion.roll_back(config.tracking, "bad")
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    promotion.roll_back(config.tracking, "no, it was good", 3)
    assert aliases() == {"champion": "3", "previous": "1", "anchor": "3"}
    client.delete_model_version(config.tracking.registered_model, "1")
    promotion.roll_back(config.tracking, "bad after all", 2)
    assert aliases() == {"champion": "2", "anchor": "2"}  # that of its time was deleted


def test_the_verdict_of_people_is_a_row_beside_the_first_one(config, add, rows, tmp_path):
    version = add("a", "inconclusive")
    report = Artefact(stage="report", path=tmp_path / "people", hash="")
    write_json(report.path / "gate.json", {"verdict": "promote", "headline": "h", "criteria": []})
    for _ in range(2):
        promotion.keep_verdict(config.tracking, version, report)
    assert [row[:4] for row in rows()] == [
        ("verdict", "1", "none", "inconclusive"),
        ("verdict", "1", "none", "promote"),
    ]

"""Which version is champion: the ledger says so, and the aliases of the registry follow it.

A verdict, a promotion and a rollback are rows of the ledger (kellet/ledger) before anything moves, and what decides is
what was written there and the files that it names by hash. Tags are labels for people: no verdict and no champion is
read from one. Two hosts write one after the other, and whoever is second sees the row of the first; the aliases are
then set to what the newest row says, as often as it takes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.mlflow_client import aliases, client
from adapters.registered import CHAMPION, IDENTITY, MANIFEST, require_tags
from adapters.rivals import ANCHOR, FOREIGN
from kellet.config.run import Tracking
from kellet.errors import InputError
from kellet.files import content_hash, read_json
from kellet.ledger import chain
from kellet.ledger.entry import NONE, Change, Entry
from kellet.ledger.table import Ledger

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PREVIOUS = "previous"
JUDGED_BY = ("gate.json", "evaluation.parquet")
"""The files of a report that a verdict rests on; their hashes are in its row."""
PARTS = {"policy": "policy_hash", "base": "base_hash", "manifest": MANIFEST}
"""What a version is made of, and the tags that hold the hashes; versions before there were manifests lack the last."""


def keep_verdict(tracking: Tracking, version: "ModelVersion", report: Artefact, champion: str = NONE) -> None:
    """Write down what the gate said of ``version``, with the hashes of the files that it rests on; once for each.

    ``champion``: the one that it was compared with, or that it replaces on another base; a later verdict keeps it.
    """
    name, number = version.name, str(version.version)
    decision = read_json(report.path / "gate.json")
    evidence = {file: content_hash(report.path / file) for file in JUDGED_BY if (report.path / file).is_file()}

    def change(entries: list[Entry]) -> Change | None:
        last = chain.last_verdict(entries, name, number)
        tags = {part: version.tags[tag] for part, tag in PARTS.items() if tag in version.tags}
        parts = {part: last.evidence[part] for part in PARTS if part in last.evidence} if last else tags
        if last and last.evidence == evidence | parts:
            return None
        return Change(
            action="verdict",
            model=name,
            version=number,
            before=last.before if last else champion,
            after=decision["verdict"],
            anchor=number if decision.get("becomes_anchor") else NONE,
            reason=decision["headline"],
            evidence=evidence | parts,
        )

    Ledger(tracking.ledger).write(change)


def has_verdict(tracking: Tracking, version: "ModelVersion") -> bool:
    """Whether the ledger has a verdict of this version; a kill before that row leaves it without one."""
    return chain.last_verdict(Ledger(tracking.ledger).entries(), version.name, str(version.version)) is not None


def promote(tracking: Tracking, version: "ModelVersion") -> None:
    """Make a version champion whose last verdict in the ledger is ``promote``, and the one before it ``previous``.

    It becomes ``anchor`` too when it was shown better than the anchor so far; else that stays where it is or, where no
    version has it yet, goes to the champion before. A version that was champion once does not become champion again:
    what replaced it came later. Raises InputError where the files of the verdict are not those of its row, and where
    the champion is not the one that the version was compared with.
    """
    name, number = version.name, str(version.version)

    def change(entries: list[Entry]) -> Change | None:
        said = chain.last_verdict(entries, name, number)
        if said is None:
            return None
        _require_evidence(said, version)
        if said.after != "promote" or _was_champion(entries, version):
            return None
        champion, anchor = _standing(tracking, entries, aliases(tracking))
        _require_compared(tracking, version, champion, said.before)
        return Change(
            action="promote",
            model=name,
            version=number,
            before=champion,
            after=number,
            anchor=next(known for known in (said.anchor, anchor, champion, number) if known != NONE),
            reason=said.reason,
            evidence={**said.evidence, "verdict": said.hash},
        )

    if Ledger(tracking.ledger).write(change):
        logger().info("%s version %s is now %s", name, number, CHAMPION)
    settle(tracking)


def require_current(tracking: Tracking, version: "ModelVersion") -> None:
    """Raise InputError when a promotion of ``version`` would replace a champion that it was not compared with."""
    name, number = version.name, str(version.version)
    entries = Ledger(tracking.ledger).entries()
    champion, _ = _standing(tracking, entries, aliases(tracking))
    if champion == number:
        return
    if _was_champion(entries, version):
        raise InputError(
            f"{name}/{number} was champion before, and version {champion} is it now; "
            f"python -m flows.rollback --to {number} brings it back"
        )
    said = chain.last_verdict(entries, name, number)
    _require_compared(tracking, version, champion, said.before if said else version.tags["compared_with"])


def roll_back(tracking: Tracking, reason: str, number: int | None = None, force: bool = False) -> str:
    """Give ``champion`` to the champion before, or to version ``number``, and say what was done.

    The champion before is by the ledger: one that was itself taken back is passed over. ``anchor`` goes back to the
    version that had it while that one was champion: were it to stay on the version that is taken back, every later
    candidate would be held to one that proved bad. A version that never was champion by the gate is its own anchor.
    Raises InputError for a version that is not registered, and unless ``force`` for one of which the ledger has no
    verdict ``promote``, or of which Kellet did not register the tags.
    """
    name, done = tracking.registered_model, ""

    def change(entries: list[Entry]) -> Change | None:
        nonlocal done
        current, moved = aliases(tracking), chain.moves(entries, name)
        champion = current.get(CHAMPION, NONE)
        if moved and champion in (moved[-1].before, NONE):  # a kill before the alias followed the row
            champion = moved[-1].after
        target = str(number or (chain.previous(entries, name) if moved else current.get(PREVIOUS, NONE)))
        if target == NONE:
            raise InputError(f"no version of {name!r} was champion before this one; name the version with --to")
        version = _version(tracking, target)
        if champion == target and (not moved or moved[-1].after == target):
            done = f"{name}/{target} is {CHAMPION} already; nothing was changed"
            return None
        said = chain.last_verdict(entries, name, target)
        if not force:
            require_tags(version, "so no gate has judged it: name another with --to, or insist with --force", *IDENTITY)
        if not force and (said is None or said.after != "promote"):
            told = f"the gate said {said.after} of" if said else "the ledger has no verdict of"
            raise InputError(f"{told} {name}/{target}; name another with --to, or insist with --force")
        done = f"{name}/{target} is {CHAMPION} in place of version {champion}: {reason}"
        return Change(
            action="roll back",
            model=name,
            version=target,
            before=champion,
            after=target,
            anchor=_anchor_then(tracking, entries, target),
            reason=reason,
            evidence={"verdict": said.hash} if said else {},
        )

    if Ledger(tracking.ledger).write(change):
        logger().info("%s", done)
    settle(tracking, handed_over=True)
    return done


def settle(tracking: Tracking, handed_over: bool = False) -> None:
    """Set the aliases to what the ledger says; what a kill or another host left undone is done here.

    Raises InputError where somebody moved ``champion`` by hand, unless this very command ``handed_over`` from there.
    """
    ledger, name = Ledger(tracking.ledger), tracking.registered_model
    while True:
        entries = ledger.entries()
        moved = chain.moves(entries, name)
        if not moved:
            return
        last, current = moved[-1], aliases(tracking)
        if len(ledger.entries()) != len(entries):  # another host moved an alias since
            continue
        if not handed_over:
            _standing(tracking, entries, current)
        wanted = {PREVIOUS: chain.previous(entries, name), ANCHOR: last.anchor, CHAMPION: last.after}
        for alias, number in wanted.items():
            _set(tracking, alias, number, current.get(alias, NONE))
        _label(tracking, last)
        if len(ledger.entries()) == len(entries):
            return


def _set(tracking: Tracking, alias: str, number: str, now: str) -> None:
    """Put an alias on version ``number``, or take it away where that is ``none`` or was deleted from the registry."""
    if number == now:
        return
    server, name = client(tracking.uri), tracking.registered_model
    if number != NONE and _registered(tracking, number):
        server.set_registered_model_alias(name, alias, number)
        return
    if number != NONE:
        logger().warning("%s/%s, which is %s by the ledger, is not registered any more", name, number, alias)
    if now != NONE:
        server.delete_registered_model_alias(name, alias)


def _label(tracking: Tracking, move: Entry) -> None:
    """The move as tags of the versions, for whoever looks at the registry."""
    labels = {move.after: {ANCHOR: move.anchor}}
    if move.action == "promote":
        labels[move.after]["promoted_at"] = move.time
    else:
        labels[move.after]["rolled_back_to"] = f"{move.time}, from version {move.before}: {move.reason}"
        if move.before not in (NONE, move.after):
            labels[move.before] = {"rolled_back": f"{move.time}, to version {move.after}: {move.reason}"}
    for number, tags in labels.items():
        for key, value in tags.items():
            client(tracking.uri).set_model_version_tag(move.model, number, key, value)


def _standing(tracking: Tracking, entries: Sequence[Entry], current: dict[str, str]) -> tuple[str, str]:
    """Champion and anchor by the ledger; by the aliases for a registry that has had them before there was a ledger.

    Raises InputError where the alias is on a version that neither the last row nor the one before it names.
    """
    name, alias = tracking.registered_model, current.get(CHAMPION, NONE)
    moved = chain.moves(entries, name)
    if not moved:
        return alias, current.get(ANCHOR, NONE)
    last = moved[-1]
    if alias not in (last.after, last.before, NONE):
        raise InputError(
            f"the alias {CHAMPION!r} of {name!r} is on version {alias}, and by the ledger {last.after} is champion "
            f"(row {last.number}): it was moved by hand. python -m flows.rollback --reason TEXT --to {last.after} puts "
            f"it back, and --to {alias} keeps it and writes that down"
        )
    return last.after, last.anchor


def _was_champion(entries: Sequence[Entry], version: "ModelVersion") -> bool:
    """Whether it was champion before, by the ledger or, for what was promoted before there was one, by its label."""
    made = chain.last_time_champion(entries, version.name, str(version.version))
    return made is not None or "promoted_at" in version.tags


def _require_evidence(said: Entry, version: "ModelVersion") -> None:
    """Raise InputError where a file of the verdict, or a part of the version, is not what the row says."""
    report = Path(version.tags.get("report", ""))
    for file in JUDGED_BY:
        if file in said.evidence:
            found = content_hash(report / file) if (report / file).is_file() else "nothing"
            _require_same(said, version, str(report / file), found, said.evidence[file])
    for part in PARTS.keys() & said.evidence.keys():
        tag = PARTS[part]
        _require_same(said, version, f"the tag {tag}", version.tags.get(tag, "nothing"), said.evidence[part])


def _require_same(said: Entry, version: "ModelVersion", what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise InputError(
            f"{what} of {version.name}/{version.version} is {found[:12]}, and its verdict (row {said.number} of the "
            f"ledger) rests on {wanted[:12]}: it was changed since. Restore it, or delete the report's folder and give "
            "the command again"
        )


def _require_compared(tracking: Tracking, version: "ModelVersion", champion: str, compared: str) -> None:
    if champion != compared:
        if champion != NONE:
            require_tags(_version(tracking, champion), FOREIGN, *IDENTITY, role=f"alias {CHAMPION}")
        raise InputError(
            f"{version.name}/{version.version} was compared with champion {compared}, and the champion is {champion} "
            "now: the comparison is out of date. Retrain with the same parameters and --set gate.seed=1 (another "
            "number if that was used): nothing is trained again, and its answers beside those of the champion of now "
            "are a new version to judge"
        )


def _version(tracking: Tracking, number: str) -> "ModelVersion":
    version = _registered(tracking, number)
    if version is None:
        raise InputError(f"{tracking.registered_model}/{number} is not registered; name another version with --to")
    return version


def _registered(tracking: Tracking, number: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client(tracking.uri).get_model_version(tracking.registered_model, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _anchor_then(tracking: Tracking, entries: Sequence[Entry], target: str) -> str:
    """The anchor of the time when ``target`` was champion; itself where none is known or that was deleted."""
    made = chain.last_time_champion(entries, tracking.registered_model, target)
    then = made.anchor if made else _version(tracking, target).tags.get(ANCHOR, target)
    return then if _registered(tracking, then) else target

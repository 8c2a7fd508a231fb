"""The programme of a registered model: which looks it has had, as tags of its versions (kellet/gate/programme.py).

A version's tag ``looks`` has every look that judged it: one for its retraining, one for each time that people's
verdicts judged it anew. The run of a look keeps the answers that it judged, and how many looks each prompt has decided
by then. A look counts from the moment when the tag is written, which is after its files; who is killed before that
takes the same look again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from adapters.artefacts import Artefact, folder, make
from adapters.log import logger
from adapters.mlflow_client import client, run_file
from kellet.config.run import Config, Tracking
from kellet.errors import InputError
from kellet.files import read_json
from kellet.gate.programme import Look, PastLook, Programme, counted

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LOOKS = "looks"
"""The tag of a version."""
ANSWERS, PROMPTS = "evaluation.parquet", "prompts.json"
"""The files in the run of a look."""


class KeptLook(BaseModel):
    """A look as the tag has it."""

    past: PastLook
    run: str
    """The MLflow run that keeps its files."""
    rivals: dict[str, str]
    """The hashes of the policies that were champion and anchor."""

    @property
    def number(self) -> int:
        """Of the look."""
        return self.past.look.number


class Taken(NamedTuple):
    """A look that is about to be decided."""

    evaluation: Artefact
    """All answers that it judges."""
    look: Look | None
    """None where ``gate.programme`` is off."""


_TAG = TypeAdapter(list[KeptLook])


def looks_of(version: "ModelVersion") -> list[KeptLook]:
    """The looks that judged a version. Raises InputError when its tag cannot be read."""
    try:
        return _TAG.validate_json(version.tags.get(LOOKS, "[]"))
    except ValidationError as error:
        raise InputError(
            f"the tag {LOOKS!r} of {version.name}/{version.version} is not as Kellet writes it "
            f"({str(error).splitlines()[0]}); restore it, or delete it and go on without these looks"
        ) from error


def read_programme(config: Config, before: int | None = None) -> Programme:
    """The programme of the registered model, or its looks before number ``before``.

    Raises InputError when it was begun with another false discovery rate than ``gate.programme_level``.
    """
    kept = _all_looks(config.tracking, before)
    rate, model = config.gate.programme_level, config.tracking.registered_model
    if kept and kept[-1].past.look.rate != rate:
        promised = kept[-1].past.look.rate
        raise InputError(
            f"the programme of {model!r} has a false discovery rate of {promised:g}, and gate.programme_level is "
            f"{rate:g}; a programme keeps its rate: set it to {promised:g}, or begin another programme with another "
            "tracking.registered_model"
        )
    return Programme(rate=rate, looks=tuple(item.past for item in kept), prompts=_prompts(config.tracking, kept))


def begin_look(config: Config, version: "ModelVersion | None") -> int | None:
    """The number of the look that a retraining will be, where its prompts depend on it (``evaluation.rotation``).

    ``version``: what this very retraining has registered before. Raises InputError as :func:`read_programme` does.
    """
    if not config.gate.programme:
        return None
    retaken = looks_of(version) if version else []
    number = retaken[0].number if retaken else read_programme(config).next_number
    return number if config.evaluation.rotation else None


def take_look(
    config: Config,
    version: "ModelVersion | None",
    policy: Artefact,
    evaluation: Artefact,
    rivals: Mapping[str, Artefact],
) -> Taken:
    """The look that a retraining is, and its answers, with those of earlier looks at the same policy added.

    What is registered already (``version``) is the look that it was. Raises InputError when earlier answers are gone.
    """
    from kellet.evaluation.file import read_evaluation

    if not config.gate.programme:
        return Taken(evaluation, None)
    retaken = looks_of(version)[:1] if version else []
    before = _all_looks(config.tracking, retaken[0].number if retaken else None)
    earlier = [item for item in before if item.past.look.candidate == _name(policy.hash)]
    if earlier:
        evaluation = _joined(config, earlier[-1], evaluation, rivals)
    if retaken:
        return Taken(evaluation, retaken[0].past.look)
    rows = read_evaluation(evaluation.path / ANSWERS)
    return Taken(evaluation, read_programme(config).next_look(_name(policy.hash), *counted(rows)))


def take_look_again(config: Config, version: "ModelVersion", evaluation: Artefact) -> Look | None:
    """The look at a registered version by an evaluation with people's verdicts; the same evaluation, the same look."""
    from kellet.evaluation.file import read_evaluation

    if not config.gate.programme:
        return None
    for item in looks_of(version):
        if item.past.evidence == evaluation.hash:
            return item.past.look
    rows = read_evaluation(evaluation.path / ANSWERS)
    return read_programme(config).next_look(_name(version.tags["policy_hash"]), *counted(rows))


def keep_look(
    tracking: Tracking,
    run_id: str,
    earlier: Sequence[KeptLook],
    taken: Taken,
    report: Path,
    rivals: Mapping[str, str],
) -> dict[str, str]:
    """The tag of a version after a look that was decided; its files are logged to the run.

    ``earlier``: the version's looks so far; ``report``: the folder with the verdict and the answers it rests on.
    Empty where ``gate.programme`` is off.
    """
    from kellet.evaluation.file import read_evaluation

    look, evidence = taken.look, taken.evaluation.hash
    if look is None:
        return {}
    past = PastLook(look=look, verdict=read_json(report / "gate.json")["verdict"], evidence=evidence, rows=evidence)
    before = Programme(rate=look.rate, prompts=_prompts(tracking, _all_looks(tracking, look.number)))
    after = before.with_look(past, counted(read_evaluation(report / ANSWERS))[1])
    client(tracking.uri).log_artifact(run_id, str(report / ANSWERS))
    client(tracking.uri).log_dict(run_id, dict(after.prompts), PROMPTS)
    looks = [item for item in earlier if item.past.evidence != evidence]
    looks.append(KeptLook(past=past, run=run_id, rivals=dict(rivals)))
    return {LOOKS: _TAG.dump_json(looks).decode()}


def _name(policy_hash: str) -> str:
    """The candidate's name in the programme: the same policy is the same candidate, whatever retraining made it."""
    return f"policy-{policy_hash[:8]}"


def _all_looks(tracking: Tracking, before: int | None = None) -> list[KeptLook]:
    """The looks of all versions by rising number, up to and without ``before``."""
    where = f"name = '{tracking.registered_model}'"
    versions = client(tracking.uri).search_model_versions(where, max_results=1000)
    looks = [item for version in versions for item in looks_of(version)]
    return sorted((item for item in looks if before is None or item.number < before), key=lambda item: item.number)


def _prompts(tracking: Tracking, looks: Sequence[KeptLook]) -> dict[str, int]:
    """How many of these looks each prompt has decided, as the last one keeps it."""
    from mlflow.exceptions import MlflowException

    for item in reversed(looks):
        try:
            return read_json(run_file(tracking.uri, item.run, PROMPTS))
        except (MlflowException, OSError) as error:
            logger().warning("which prompts look %d decided is not in MLflow any more: %s", item.number, error)
    return {}


def _joined(config: Config, earlier: KeptLook, evaluation: Artefact, rivals: Mapping[str, Artefact]) -> Artefact:
    """The answers that an earlier look at the same policy judged, and the new ones, where these lack any of them.

    Answers of a champion or an anchor that is another one by now are left out.
    """
    from mlflow.exceptions import MlflowException

    from kellet.evaluation.file import DRAW, check_evaluation, evaluation_hash, read_evaluation
    from kellet.evaluation.joined import join
    from kellet.evaluation.verdicts import write_judged

    try:
        before = read_evaluation(run_file(config.tracking.uri, earlier.run, ANSWERS))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{earlier.past.look.candidate} was judged before (look {earlier.number}) by answers that MLflow run "
            f"{earlier.run} does not have any more ({error}); they count whenever it is judged again: restore the run, "
            "or train another policy"
        ) from error
    same = [name for name, rival in rivals.items() if earlier.rivals.get(name) == rival.hash]
    before = before[before["system"].isin(["candidate", "reference", *same])]
    new = read_evaluation(evaluation.path / ANSWERS)
    rows = check_evaluation(join([before, new]))
    if (rows[DRAW] == 1).all() and evaluation_hash(rows.drop(columns=DRAW)) == evaluation_hash(new):
        return evaluation
    logger().info("%s is judged by the answers of look %d too", earlier.past.look.candidate, earlier.number)
    path = folder("answers", config, {"earlier": evaluation_hash(before), "evaluation": evaluation})
    return make(path, lambda out: write_judged(rows, evaluation.path, out))

"""A candidate as a folder that MLflow can serve, and its way into the registry's store.

kellet/models/served_model.py says what is in it. It holds no code, and its manifest covers every file, what MLflow
wrote included: so it is complete before anything is uploaded, and the registry keeps the manifest's hash.
"""

import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters.artefacts import RECORD, Artefact, verify
from adapters.mlflow_client import client
from kellet.config.run import Tracking
from kellet.config.training import Text
from kellet.files import content_hash, write_json
from kellet.manifest import FILE, write_manifest
from kellet.models.served_model import BASE, DATA, LOADER, PLAIN, POLICY, TEXT, check_served

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

SERVING = ("mlflow", "numpy", "pandas", "peft", "pydantic", "pyyaml", "safetensors", "torch", "transformers")
"""What the registered model needs to run beside Kellet, at the installed versions. Kellet itself is not among them: an
environment made from this list would look for it at a package index."""


class Uploaded(NamedTuple):
    """A model in the store, not registered yet."""

    model: "LoggedModel"
    manifest_hash: str


def upload(tracking: Tracking, run_id: str, base: Artefact, policy: Artefact, text: Text) -> Uploaded:
    """Upload base and policy as a model of the run.

    Raises DataError where they are not what the retraining made, or a file of theirs may hold code.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)  # models:/ is looked up there, whatever the client's is
    verify(base)
    verify(policy)
    server = client(tracking.uri)
    experiment = server.get_run(run_id).info.experiment_id
    model = server.create_logged_model(experiment, name="policy", source_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            write_model(folder, base.path, policy.path, text, model_uuid=model.model_id, run_id=run_id)
            server.log_model_artifacts(model.model_id, str(folder))
            manifest_hash = content_hash(folder / FILE)
    except BaseException:
        server.finalize_logged_model(model.model_id, "FAILED")
        raise
    return Uploaded(server.finalize_logged_model(model.model_id, "READY"), manifest_hash)


def write_model(folder: Path, base: Path, policy: Path, text: Text, **names: Any) -> None:
    """Write the model's folder, checked as it will be when it is loaded; ``names`` are fields of MLflow's MLmodel."""
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # MLflow would run the model on an example; the signature is given instead. And it warns of hints of its own.
        warnings.filterwarnings("ignore", message=".*An input example was not provided|.*inferred as AnyType")
        from mlflow import pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import DataType, ParamSchema, ParamSpec

        seed, data = ParamSpec("seed", DataType.long, None), Path(temporary) / DATA.name
        for source, place in ((base, BASE), (policy, POLICY)):
            _link(source.resolve(), data / place.name)
        write_json(data / TEXT.name, text.model_dump(mode="json"))
        pyfunc.save_model(
            folder,
            loader_module=LOADER,
            data_path=str(data),
            mlflow_model=Model(signature=ModelSignature(params=ParamSchema([seed])), **names),
            pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in SERVING],
        )
    write_manifest(folder, "served_model", base=base, policy=policy)
    check_served(folder)


def _link(source: Path, target: Path) -> None:
    """``target`` as links to what may be served of ``source``; MLflow copies what they lead to."""
    for file in source.rglob("*"):
        if file.is_file() and file.suffix in PLAIN - {""} and file.name != RECORD:
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)

"""The parameters of a run: frozen, nested by stage, an unknown key is an error.

A parameter file is YAML of the shape of :class:`Config`; kellet/config/file.py reads it. Its sections are described in
data.py (the preferences), training.py (text, base model, reward model, policy) and judgement.py (evaluation, gate).
"""

from kellet.config.data import Data, Name, Section
from kellet.config.judgement import Evaluation, Gate
from kellet.config.training import BaseLM, Policy, RewardModel, Text

TRACKING = "KELLET_TRACKING"
"""The variable by which a process that a verb starts gets the section ``tracking``, as JSON."""


class Tracking(Section):
    """MLflow."""

    uri: str = "sqlite:///mlflow.db"
    """Where runs and the registry are kept: a database, or the address of an MLflow server."""
    experiment: str = "kellet"
    """The MLflow experiment that runs are gathered in."""
    registered_model: Name = "kellet-support"
    """Candidates are registered under this name; ``champion`` is an alias of one version."""
    ledger: str = "sqlite:///ledger.db"
    """Where verdicts, promotions and rollbacks are written down: an address of SQLAlchemy, ``postgresql+psycopg://…``
    for several hosts."""


class Config(Section):
    """Everything that decides a run."""

    name: Name = "default"
    """Names the folder runs/NAME."""
    seed: int = 0
    """Seed of all training and sampling; the world has its own."""
    data: Data = Data()
    text: Text = Text()
    base_model: BaseLM = BaseLM()
    reward_model: RewardModel = RewardModel()
    policy: Policy = Policy()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    tracking: Tracking = Tracking()

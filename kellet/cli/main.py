"""The command ``kellet``: every verb, in the order of the pipeline.

Without folder options a verb reads what the one before it wrote (kellet/cli/options.py has the places).
Exit codes: 0 ok or promoted, 3 not promoted, 2 bad usage or input, 1 failure (kellet/errors.py).
"""

import os

import click

from kellet import __version__
from kellet.cli import data, diagnosis, follow, gate, judge, ledger, models, report, review
from kellet.cli.options import Verbs


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Retrain a language model from preferences, and promote it only when its gain is real.

    The verbs below stand in their order, and each reads what the one before it wrote; `validate`, `gate` and
    `diagnose` also judge files from elsewhere. The whole retraining, with tracking and cached stages, is
    `python -m flows.retrain --params FILE`.

    Exit codes: 0 ok or promoted, 3 not promoted, 2 bad usage or input, 1 failure.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: docs/measured/speed.md


for verb in (
    data.synthesise,
    data.prepare,
    data.validate,
    models.train_base,
    models.train_reward,
    models.train_policy,
    gate.evaluate,
    judge.judge,
    gate.gate,
    gate.gate_power,
    diagnosis.diagnose,
    diagnosis.import_logs,
    follow.follow,
    report.report,
    report.compare_runs,
    models.export,
    review.chat,
    review.serve,
    review.spot_check,
    ledger.ledger,
    models.estimate,
    models.import_gguf,
    data.data,
):
    main.add_command(verb)

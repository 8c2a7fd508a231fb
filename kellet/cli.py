"""The command line: one verb per stage. Heavy imports stand inside the verbs, so that ``--help`` answers at once.

Without folder options a verb reads what the one before it wrote (kellet/cli_options.py has the places).
Exit codes: 0 ok or promoted, 3 not promoted, 2 bad usage or input, 1 failure (kellet/errors.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet import __version__
from kellet.cli_compare import compare
from kellet.cli_diagnosis import diagnose, import_logs
from kellet.cli_options import (
    FILE,
    PARAMS,
    Verbs,
    base_of,
    first_process,
    in_project,
    mapped_columns,
    own_folder,
    path_option,
    prepared_folder,
    run_folder,
    table_of,
    there,
    warn,
    with_params,
)
from kellet.cli_report import report
from kellet.cli_review import chat, spot_check
from kellet.errors import ConfigError, KelletError, NoLift, NotPromoted
from kellet.progress import lines

if TYPE_CHECKING:
    from kellet.config import Config


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Retrain a language model from preferences, and promote it only when its gain is real.

    The verbs below stand in their order, and each reads what the one before it wrote; `validate`, `gate` and
    `diagnose` also judge files from elsewhere. The whole retraining, with tracking and cached stages, is
    `python -m flows.retrain --params FILE`.

    Exit codes: 0 ok or promoted, 3 not promoted, 2 bad usage or input, 1 failure.
    """


run_option = path_option("--run", "runs/NAME of the parameter name")
preferences_option = path_option("--preferences", "data/prepared/NAME/preferences.parquet, NAME being data.name")
base_option = path_option("--base", "base_model.path if set, else RUN/base")


@main.command(epilog="Example: kellet synthesise --set data.world.length_bias=0")
@with_params()
@path_option("--out", "the first of data.files")
def synthesise(config: "Config", out: Path | None) -> None:
    """Make the preferences of the support world."""
    from kellet.world import write_world

    if config.data.source != "world":
        raise ConfigError(f"data.source is {config.data.source!r}: its files are given; only 'world' is synthesised")
    path = out or Path(config.data.files[0])
    click.echo(f"{write_world(config.data.world, path):,} pairs in {path}")


@main.command(epilog="Example: kellet prepare --params profiles/hh-rlhf.yaml")
@with_params()
@path_option("--out", "data/prepared/NAME")
@path_option("--docs", "artifacts/data_docs/NAME")
def prepare(config: "Config", out: Path | None, docs: Path | None) -> None:
    """Check raw preferences, quarantine bad rows, split by prompt, and write the table."""
    from kellet import prepare as stage

    out = own_folder(out or prepared_folder(config), "summary.json")
    docs = own_folder(docs or Path("artifacts/data_docs", config.data.name), "rows.html")
    summary = stage.prepare(config.data, Path.cwd(), out, docs, lines("prepare", ("rows",)))
    click.echo(_counts(summary) + f"; {out}, Data Docs in {docs / 'index.html'}")
    warn(summary["warnings"])


@main.command(epilog="Example: kellet validate export.csv --map prompt=question --set data.validation.min_pairs=50")
@click.argument("files", type=FILE, nargs=-1, required=True)
@with_params(optional=True)
@click.option("--map", "mapped", multiple=True, metavar="OURS=THEIRS", help="Name a column, such as prompt=question.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--docs", type=FILE, help="Folder for Great Expectations' Data Docs; none without it.")
def validate(
    config: "Config", files: tuple[Path, ...], mapped: tuple[str, ...], as_json: bool, docs: Path | None
) -> None:
    """Say whether preference FILES can be used, and what is wrong with them; writes nothing but --docs.

    Columns are prompt, chosen and rejected, or prompt, answer_a, answer_b and preferred (who won), and if given
    annotator, created_at, margin. Exits with 0 when the files can be used together as one data set, 2 when not.
    """
    import tempfile

    from kellet import prepare as stage

    try:
        data = mapped_columns(config.data, mapped)
        docs = docs and own_folder(docs, "rows.html")
        with tempfile.TemporaryDirectory() as folder:
            named = [(str(path), path) for path in files]
            found = stage.examine(named, data, Path(folder), docs, lines("validate", ("rows",)))
    except KelletError as error:
        if as_json:
            click.echo(json.dumps({"usable": False, "error": str(error)}, indent=2, ensure_ascii=False))
        raise
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        for name, columns in found.columns.items():
            click.echo(f"{name}: read " + ", ".join(f"{ours} from {theirs!r}" for ours, theirs in columns.items()))
        click.echo(_counts(found.summary))
        for check in found.report.checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL' if check.severity == 'critical' else 'warn'} {check}")
    found.raise_if_failed(docs)


@main.command(epilog="Example: kellet train-base --set base_model.steps=100")
@with_params()
@run_option
@preferences_option
@path_option("--out", "RUN/base")
def train_base(config: "Config", run: Path | None, preferences: Path | None, out: Path | None) -> None:
    """Train the small base model, which is also the reference; does nothing when base_model.path is set."""
    if config.base_model.path is not None:
        click.echo(f"base_model.path is {base_of(config, run, None)}: nothing to train")
        return
    table = table_of(config, preferences)
    from kellet import base_model as stage

    out = own_folder(out or run_folder(config, run) / "base", "config.json")
    stage.train_base(config, table, out, lines("base model", ("base/loss",)))
    click.echo(f"base model in {out}")


@main.command(
    epilog="Example: kellet train-reward --set reward_model.length_control=none --set reward_model.require_lift=false"
)
@with_params()
@run_option
@preferences_option
@base_option
@click.option("--judge", is_flag=True, help="Train the judge of evaluation.judge instead: RUN/judge.")
@path_option("--out", "RUN/reward_model")
def train_reward(
    config: "Config", run: Path | None, preferences: Path | None, base: Path | None, judge: bool, out: Path | None
) -> None:
    """Train the reward model and write its card; exits with 3 without lift over 'always the longer one'."""
    table = table_of(config, preferences)
    base = base_of(config, run, base)
    from kellet.judge import train_judge
    from kellet.reward_card import require_lift
    from kellet.train_reward import train_reward as train

    name, what, fit = ("judge", "judge", train_judge) if judge else ("reward_model", "reward model", train)
    out = own_folder(out or run_folder(config, run) / name, "card.json")
    progress = lines(what, ("reward_model/loss", "reward_model/accuracy"))
    card = fit(config, table, base, out, progress)
    if first_process():
        told = f"accuracy {_share(card['accuracy'])}, lift over length {_share(card['lift'])}"
        click.echo(f"{what} in {out}; {told}")
    warn(card.get("warnings", []))
    try:
        require_lift(card)
    except NoLift as error:
        if judge:
            warn(["the judge has no lift over 'always the longer one'; it will give no scores"])
            return
        if config.reward_model.require_lift:
            raise
        warn([f"{error} (carrying on: reward_model.require_lift is false)"])


@main.command(epilog="Example: kellet train-policy --set policy.kl.target=3 --set policy.iterations=10")
@with_params()
@run_option
@preferences_option
@base_option
@path_option("--reward-model", "RUN/reward_model")
@path_option("--out", "RUN/policy")
def train_policy(
    config: "Config",
    run: Path | None,
    preferences: Path | None,
    base: Path | None,
    reward_model: Path | None,
    out: Path | None,
) -> None:
    """Train the policy by PPO against the reward model, held to the reference by KL."""
    table = table_of(config, preferences)
    base = base_of(config, run, base)
    reward_model = there(reward_model or run_folder(config, run) / "reward_model", "train-reward")
    from kellet import train_policy as stage

    out = own_folder(out or run_folder(config, run) / "policy", "history.jsonl")
    shown = ("objective/reward", "objective/kl", "objective/kl_target", "objective/kl_coef", "tokens/response_mean")
    stage.train_policy(config, table, base, reward_model, out, lines("policy", shown))
    if first_process():
        click.echo(f"policy in {out}")


@main.command(epilog="Example: kellet evaluate --champion runs/last-week/policy")
@with_params()
@run_option
@preferences_option
@base_option
@path_option("--reward-model", "RUN/reward_model")
@path_option("--policy", "RUN/policy")
@click.option("--champion", type=FILE, help="Policy folder of the present champion; none without it.")
@path_option("--judge", "RUN/judge when evaluation.judge is true, else none")
@path_option("--out", "RUN/evaluation")
def evaluate(
    config: "Config",
    run: Path | None,
    preferences: Path | None,
    base: Path | None,
    reward_model: Path | None,
    policy: Path | None,
    champion: Path | None,
    judge: Path | None,
    out: Path | None,
) -> None:
    """Let candidate, reference and champion answer the held-out prompts."""
    table = table_of(config, preferences)
    base = base_of(config, run, base)
    reward_model = there(reward_model or run_folder(config, run) / "reward_model", "train-reward")
    policy = there(policy or run_folder(config, run) / "policy", "train-policy")
    champion = there(champion, "train-policy") if champion else None
    if judge or config.evaluation.judge:
        judge = there(judge or run_folder(config, run) / "judge", "train-reward --judge")
    from kellet import evaluation as stage

    out = own_folder(out or run_folder(config, run) / "evaluation", "evaluation.parquet")
    stage.evaluate(config, table, base, reward_model, policy, champion, out, lines("evaluation"), judge)
    click.echo(f"evaluation in {out / 'evaluation.parquet'}")


@main.command(epilog="Example: kellet gate evaluation.parquet --json --set gate.kl_budget=8")
@click.argument("file", type=FILE, required=False)
@with_params(optional=True)
@run_option
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON, as in gate.json.")
@click.option(
    "--card", type=FILE, help="The reward model's card.json, for the criterion reward_trust; none without it."
)
@path_option("--out", "RUN/gate.json without FILE; with FILE nothing is written")
def gate(
    config: "Config", file: Path | None, run: Path | None, as_json: bool, card: Path | None, out: Path | None
) -> None:
    """Judge an evaluation FILE (.parquet, .csv), whoever made it; default RUN/evaluation/evaluation.parquet.

    Exits with 0 for promote, 3 for block and inconclusive.
    """
    evaluation = file or there(run_folder(config, run) / "evaluation/evaluation.parquet", "evaluate")
    from kellet import gate as stage

    own = run_folder(config, run) / "reward_model/card.json"
    if card is None and file is None and own.exists():
        card = own
    told = _read_json(there(card, "train-reward")) if card else None
    decision = stage.decide(stage.read_evaluation(evaluation), config.gate, card=told)
    out = out or (None if file else run_folder(config, run) / "gate.json")
    if out is not None:
        decision.write(out)
    if as_json:
        click.echo(json.dumps(decision.to_dict(), indent=2, ensure_ascii=False))
    else:
        for criterion in decision.criteria:
            mark = {True: "pass", False: "FAIL", None: "?"}[criterion.passed] if criterion.counted else "-"
            click.echo(f"{mark:<5}{criterion.name:<18} {criterion.why}")
        click.echo(f"     {'length':<18} {decision.length.sentence}")
    if not decision.promote:
        raise NotPromoted(f"{decision.verdict}: {decision.headline}")
    click.echo(f"promote: {decision.headline}", err=as_json)


@main.command(epilog="Example: kellet gate-power --prompts 256 --replicates 200 --set gate.judge_margin=0.05")
@with_params(optional=True)
@click.option("--prompts", default="64,256", show_default=True, help="Numbers of prompts, with commas.")
@click.option("--replicates", default=1000, show_default=True, help="Evaluations drawn of each population and size.")
@click.option("--population", "names", multiple=True, help="Only this one; may be given several times.")
@click.option("--workers", default=1, show_default=True, help="Processes at once; the result does not depend on it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def gate_power(
    config: "Config", prompts: str, replicates: int, names: tuple[str, ...], workers: int, as_json: bool
) -> None:
    """Simulate policies whose truth is known, and say how often the gate errs with these settings."""
    from kellet import gate_power as stage
    from kellet.populations import chosen

    try:
        sizes = [int(text) for text in prompts.split(",")]
    except ValueError as error:
        raise ConfigError(f"--prompts got {prompts!r}; it takes numbers with commas, such as 64,256") from error
    if min(*sizes, replicates, workers) < 1:
        raise ConfigError("--prompts, --replicates and --workers take numbers from 1 on")
    found = stage.measure(
        config.gate, chosen(names), sizes, replicates, workers=workers, progress=lambda text: click.echo(text, err=True)
    )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo(f"{stage.verdict_table(found.rates)}\n\n{stage.coverage_table(found.coverages)}".rstrip())


main.add_command(diagnose)
main.add_command(import_logs)
main.add_command(report)
main.add_command(compare)


@main.command(epilog="Example: kellet export --policy runs/support/policy --out served")
@with_params()
@run_option
@base_option
@path_option("--policy", "RUN/policy")
@path_option("--out", "RUN/export")
def export(config: "Config", run: Path | None, base: Path | None, policy: Path | None, out: Path | None) -> None:
    """Merge a policy's adapter into its base: a plain transformers folder, to serve without Kellet."""
    base = base_of(config, run, base)
    policy = there(policy or run_folder(config, run) / "policy", "train-policy")
    from kellet import export as stage

    out = own_folder(out or run_folder(config, run) / "export", "config.json")
    difference = stage.export(base, policy, out)
    click.echo(f"merged model in {out}; no logit differs by more than {difference:.1e} on chance tokens")


main.add_command(chat)
main.add_command(spot_check)


@main.command(epilog="Example: kellet estimate --params profiles/mine.yaml --memory 24")
@with_params()
@click.option(
    "--memory", type=click.FloatRange(min=0, min_open=True), metavar="GIB", help="Default: what is free here."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the frozen base. Default: base_model.dtype."
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That share each batch.")
def estimate(config: "Config", memory: float | None, dtype: str | None, processes: int) -> None:
    """Say how much memory training takes, step by step, and the largest batch that fits; loads no weights."""
    import torch

    from kellet import memory as stage

    available = stage.available_memory() if memory is None else int(memory * 2**30)
    dtype = dtype or config.base_model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    if processes > 1:
        click.echo(f"for each of {processes} processes; a largest batch is one process's share")
    click.echo(stage.memory_text(stage.estimate(config, getattr(torch, dtype), processes), available))


@main.group()
def data() -> None:
    """Versions of the prepared data: their history, and how to get one back. In the project root."""


@data.command(epilog="Example: kellet data history --data hh-rlhf")
@click.option("--params", type=FILE, default=PARAMS, show_default=True, help="Parameter file.")
@click.option("--data", "name", help="Default: data.name of the parameter file.")
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON, with each summary.")
def history(params: Path, name: str | None, as_json: bool) -> None:
    """List the versions of a data set: md5, size, length bias, and the models that learned from each."""
    which = ("--data", name) if name else ()
    in_project("tasks.data_history", "history", "--params", str(params), *which, *(["--json"] if as_json else []))


@data.command(epilog="Example: kellet data restore kellet-support/3")
@click.argument("model")
@click.option("--params", type=FILE, default=PARAMS, show_default=True, help="Parameter file, for MLflow's address.")
@click.option("--out", type=FILE, help="Default: data/restored/NAME-VERSION.")
def restore(model: str, params: Path, out: Path | None) -> None:
    """Bring back the data that a registered MODEL (NAME/VERSION) learned from, into a folder of its own."""
    in_project("tasks.data_history", "restore", model, "--params", str(params), *(("--out", str(out)) if out else ()))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _counts(summary: Mapping[str, Any]) -> str:
    """The counts of summary.json as a phrase."""
    text = (
        f"{summary['rows_in']:,} rows: {summary['accepted']:,} pairs accepted, {summary['quarantined']:,} quarantined"
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary["reasons"].items())
    text += f" ({reasons})" if reasons else ""
    if prompts := summary.get("prompt_files"):
        counts = prompts["accepted"]
        text += f"; prompts: {counts['train']:,} for training, {counts['test']:,} for evaluation"
        text += f", {prompts['quarantined']:,} quarantined"
    return text


def _share(estimate: Mapping[str, Any]) -> str:
    """A share with its interval, in percent."""
    ends = ("?" if end is None else f"{100 * end:.1f}" for end in (estimate["value"], *estimate["interval"]))
    value, low, high = ends
    return f"{value}% [{low}, {high}]"

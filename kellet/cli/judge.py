"""``kellet judge``: a model behind an endpoint scores the pairs of an evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import FILE, path_option, warn, with_params
from kellet.errors import ConfigError, InputError
from kellet.progress import lines

if TYPE_CHECKING:
    from kellet.config.run import Config

Option = Callable[[Callable[..., None]], Callable[..., None]]
AT_LEAST_ONE = click.IntRange(min=1)
PRICE = click.FloatRange(min=0)
SECONDS = click.FloatRange(min=0, min_open=True)


def _options(*options: Option) -> Option:
    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return decorate


of_the_judge = _options(
    click.option("--endpoint", required=True, help="Address of an OpenAI-compatible server, up to and with /v1."),
    click.option("--model", required=True, help="Name of the judging model on that server."),
    path_option("--rubric", "Kellet's own, for customer support: kellet/evaluation/judge_rubric.md"),
    click.option(
        "--body",
        metavar="JSON",
        default="{}",
        help="Fields of each request beside model and messages; null takes one out. "
        'Default: {"temperature": 0, "max_tokens": 512}.',
    ),
    click.option("--no-system", is_flag=True, help="One message of the user, for models without a system message."),
    click.option("--key-variable", help="Environment variable of the server's key. Default: KELLET_JUDGE_KEY, if set."),
    click.option("--concurrency", type=AT_LEAST_ONE, default=4, show_default=True, help="Requests at once."),
    click.option("--timeout", type=SECONDS, default=120.0, show_default=True, help="Seconds for one request."),
    click.option("--tries", type=AT_LEAST_ONE, default=6, show_default=True, help="Tries where the server is busy."),
)
of_the_files = _options(
    click.option("--column", default="judge_model", show_default=True, help="Column that gets the scores."),
    click.option("--prompts", type=AT_LEAST_ONE, help="Judge the pairs of so many prompts, drawn at random; else all."),
    click.option("--seed", type=int, default=0, show_default=True, help="Decides which prompts."),
    path_option("--cache", "judge_cache/COLUMN.jsonl; replies are only added to it, and none is asked for twice"),
    path_option("--out", "STEM.judged.parquet beside EVALUATION"),
    click.option("--in-place", is_flag=True, help="Write into EVALUATION itself (Parquet); nothing in it is lost."),
    click.option("--price-prompt", type=PRICE, help="Price of a million tokens of requests."),
    click.option("--price-answer", type=PRICE, help="Price of a million tokens of replies."),
    click.option("--json", "as_json", is_flag=True, help="Print everything as JSON."),
)


@click.command(epilog="Example: kellet judge evaluation.parquet --endpoint http://127.0.0.1:8000/v1 --model qwen3-32b")
@click.argument("evaluation", type=FILE)
@with_params(optional=True)
@of_the_judge
@of_the_files
def judge(config: "Config", evaluation: Path, **options: Any) -> None:
    """Let a model behind an endpoint judge the pairs of an EVALUATION, each in both orders, into a column judge_*.

    Candidate against reference, champion and anchor. Says how far the verdicts turn with the order and lean to the
    longer answer, how far they agree with judge_human, and what they cost. Killed, it goes on by the same command.
    """
    from kellet.cli.judged import findings, why_none
    from kellet.evaluation import judged_file
    from kellet.evaluation.chat_endpoint import ChatEndpoint
    from kellet.evaluation.endpoint_judge import Judge, ask, pairs_of, questions_of, scores, shares
    from kellet.evaluation.file import read_accounted
    from kellet.evaluation.judge_messages import read_rubric
    from kellet.evaluation.reply_cache import opened

    column = options["column"]
    judged_file.check_column(column)
    place = judged_file.place_for(evaluation, options["out"], options["in_place"])
    rubric, settings = read_rubric(options["rubric"]), _settings(options["body"])
    endpoint = ChatEndpoint(options["endpoint"], options["key_variable"], options["timeout"], options["tries"])
    if endpoint.in_the_clear:
        warn([f"the key goes unencrypted to {options['endpoint']}: it is http, not https"])
    notes: list[str] = []
    rows, _ = read_accounted(evaluation, notes)
    warn(notes)
    judged_file.scores_at(place, rows, column)  # before anybody is asked
    pairs = pairs_of(rows, options["prompts"], options["seed"])
    questions = questions_of(pairs)
    wanted = [question for orders in questions if orders is not None for question in orders]
    who = Judge(options["model"], rubric, settings, not options["no_system"], options["concurrency"])
    with opened(options["cache"] or Path("judge_cache", f"{column}.jsonl")) as cache:
        if cache.damaged:
            warn([f"{cache.path}: {cache.damaged} damaged lines are no replies; they are asked for again"])
        asking = ask(wanted, who, endpoint, cache, lines("judge"))
    judged = shares(pairs, questions, asking)
    if not judged["share"].notna().any():
        raise InputError(f"no pair has a verdict, so nothing was written: {why_none(asking)}")
    table = judged_file.merged(rows, column, scores(rows, judged), evaluation)
    judged_file.write_judged(evaluation, place, table, column)
    found = findings(config, column, table, judged, asking, (options["price_prompt"], options["price_answer"]))
    if options["as_json"]:
        click.echo(json.dumps({**found.to_dict(), "out": str(place)}, indent=2, ensure_ascii=False, allow_nan=False))
        return
    for sentence in found.sentences():
        click.echo(sentence)
    click.echo(f"judged evaluation in {place}; next: kellet gate {place} {found.settings}")


def _settings(text: str) -> dict[str, Any]:
    """The fields of --body. Raises ConfigError where they are none or name what other options say."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"--body got {text!r}, which is not JSON ({error}); such as '{{\"max_tokens\": 1024}}'"
        ) from error
    if not isinstance(fields, dict):
        raise ConfigError(f"--body got {text!r}; it takes a JSON object, such as '{{\"max_tokens\": 1024}}'")
    if taken := sorted({"model", "messages", "stream", "n"} & set(fields)):
        raise ConfigError(f"--body names {', '.join(taken)}, which the judging sets itself; take it out")
    return fields

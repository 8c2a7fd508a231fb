"""A model behind an endpoint compares the candidate's answers with the others', each pair in both orders.

A pair is the candidate's answer and another system's to the same prompt with the same sample number. The two verdicts
on it, one in each order, give the candidate's share w: 1 both times better, 0 both times worse, 1/2 a tie or a verdict
that turned with the order. Equal answers are ties that nobody is asked about. A pair of which either verdict cannot be
read has none.

The column holds a score for each answer, from which the gate reads who won: the candidate's is its share against the
reference, and another's is higher by 1 - 2w, so that the difference of any two is 2w - 1 as with people's verdicts
(kellet/evaluation/spot_check.py). Against the reference alone that is w and 1 - w.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.data.conversation import as_text
from kellet.errors import InputError
from kellet.evaluation.answers import clusters_of
from kellet.evaluation.chat_endpoint import ChatEndpoint, RefusedRequest, Stopped
from kellet.evaluation.file import SYSTEMS
from kellet.evaluation.judge_messages import Body, Question, Verdict, request, request_again, verdict_of
from kellet.evaluation.reply_cache import Reply, ReplyCache
from kellet.interrupt import held_back
from kellet.progress import Progress, quiet
from kellet.stats.words import as_read

CANDIDATE, *OTHERS = SYSTEMS
ASKS = 3
"""Requests about one question: the first, and reminders where the reply has no verdict."""
REFUSED = 5
"""Refused requests after which the judging ends, where the server has answered none."""
TICK = 0.5
"""Seconds between two looks for Ctrl-C."""
SHARE = {"A": 1.0, "TIE": 0.5, "B": 0.0}
"""Verdict -> the share of the answer that stands first."""


class Judge(NamedTuple):
    """Who is asked, and how."""

    model: str
    rubric: str
    settings: Mapping[str, Any]
    """Of the request, beside model and messages; see kellet/evaluation/judge_messages.py."""
    system: bool = True
    """Whether the rubric goes into a message of the system."""
    concurrency: int = 4
    """Requests at once."""

    def request(self, question: Question) -> Body:
        """The first request about a question."""
        return request(self.model, self.rubric, question, self.settings, self.system)


class Answered(NamedTuple):
    """What was said about one question."""

    verdict: Verdict | None
    replies: tuple[Reply, ...]
    refused: str = ""
    """Why the server took no request; empty where it did."""


class Asking(NamedTuple):
    """All questions, answered, and what that took."""

    answered: dict[Question, Answered]
    new: tuple[Reply, ...]
    """Replies that were not in the cache before."""


def pairs_of(rows: pd.DataFrame, prompts: int | None = None, seed: int = 0) -> pd.DataFrame:
    """The pairs of checked rows: one row each, with both answers, their places in ``rows``, prompt and cluster.

    ``prompts``: only the pairs of so many prompts, drawn at random. Columns: other (the system), row_c, row_o (places),
    prompt, response_c, response_o, length_c, length_o (tokens), people (1 the candidate won by judge_human, 0.5, 0;
    NaN where people did not judge), prompt_code, group.
    """
    table = rows.assign(row=np.arange(len(rows)), prompt_code=pd.factorize(rows["prompt_id"], sort=True)[0])
    groups = clusters_of(rows)
    table["group"] = table["prompt_code"] if groups is None else groups
    if prompts is not None:
        order = np.random.default_rng([seed, 12]).permutation(int(table["prompt_code"].max()) + 1)
        table = table[table["prompt_code"].isin(order[:prompts])]
    people = table["judge_human"] if "judge_human" in table else pd.Series(np.nan, index=table.index)
    table = table.assign(human=people)
    sides = {str(name): part for name, part in table.groupby("system")}
    joined = [
        sides[CANDIDATE].merge(sides[other], on=["prompt_id", "sample"], suffixes=("_c", "_o")).assign(other=other)
        for other in OTHERS
        if other in sides
    ]
    both = pd.concat(joined, ignore_index=True)
    kept = ["other", "row_c", "row_o", "response_c", "response_o", "length_tokens_c", "length_tokens_o"]
    named = {"prompt_c": "prompt", "prompt_code_c": "prompt_code", "group_c": "group"}
    named |= {f"length_tokens_{side}": f"length_{side}" for side in "co"}
    found = both[[*kept, "prompt_c", "prompt_code_c", "group_c"]].rename(columns=named)
    return found.assign(people=0.5 + 0.5 * np.sign(both["human_c"] - both["human_o"]))


def questions_of(pairs: pd.DataFrame) -> list[tuple[Question, Question] | None]:
    """Of each pair the question with the candidate first, and that with it last; None where the answers are equal."""
    found: list[tuple[Question, Question] | None] = []
    for prompt, ours, theirs in zip(pairs["prompt"], pairs["response_c"], pairs["response_o"], strict=True):
        text = as_text(prompt)
        equal = as_read(ours) == as_read(theirs)
        found.append(None if equal else (Question(text, ours, theirs), Question(text, theirs, ours)))
    return found


def ask(
    questions: list[Question], judge: Judge, endpoint: ChatEndpoint, cache: ReplyCache, progress: Progress = quiet
) -> Asking:
    """Answer all questions, from the cache where it has the replies.

    Ctrl-C or SIGTERM lets the requests that are under way end, keeps their replies, and is then delivered. Raises what
    :meth:`ChatEndpoint.ask` raises, but a refused request only where the server takes none.
    """
    answered: dict[Question, Answered] = {}
    for question in dict.fromkeys(questions):
        known = _from_cache(judge.request(question), cache)
        if known is not None:
            answered[question] = known
    waiting = [question for question in dict.fromkeys(questions) if question not in answered]
    cached, total, refused, new = len(answered), len(answered) + len(waiting), 0, list[Reply]()
    progress(cached, total, {})

    def answer(question: Question) -> tuple[Question, Answered, list[Reply]]:
        return question, *_asked(judge.request(question), endpoint, cache)

    with closing(_at_once(answer, iter(waiting), judge.concurrency, endpoint.stop)) as results:
        for question, found, replies in results:
            answered[question] = found
            new += replies
            refused += bool(found.refused)
            if not cached and not new and refused >= min(REFUSED, total):
                raise InputError(f"{found.refused}; none of {refused} requests was taken")
            progress(len(answered), total, {})
    return Asking(answered, tuple(new))


def shares(pairs: pd.DataFrame, questions: list[tuple[Question, Question] | None], asking: Asking) -> pd.DataFrame:
    """``pairs`` with the candidate's share where it stood ``first`` and ``last``, and ``share``, the mean of both.

    NaN where a verdict cannot be read; equal answers have one half three times. ``asked``: whether anybody was.
    """
    first = np.full(len(pairs), 0.5)
    last = np.full(len(pairs), 0.5)
    for number, orders in enumerate(questions):
        if orders is not None:
            ours, theirs = (asking.answered[question].verdict for question in orders)
            first[number] = np.nan if ours is None else SHARE[ours]
            last[number] = np.nan if theirs is None else 1 - SHARE[theirs]
    asked = np.array([orders is not None for orders in questions], bool)
    return pairs.assign(first=first, last=last, share=(first + last) / 2, asked=asked)


def scores(rows: pd.DataFrame, judged: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The column: a score of each of ``rows``, higher is better; NaN where no pair with it has a verdict."""
    found = np.full(len(rows), np.nan)
    known = judged[judged["share"].notna()]
    ours, theirs, share = (known[name].to_numpy() for name in ("row_c", "row_o", "share"))
    reference = (known["other"] == OTHERS[0]).to_numpy()
    found[ours] = 0.5
    found[ours[reference]] = share[reference]
    found[theirs] = found[ours] + 1 - 2 * share
    return found


def _from_cache(body: Body, cache: ReplyCache) -> Answered | None:
    """What the cache says about a question; None where a request is needed."""
    replies = list[Reply]()
    for _ in range(ASKS):
        reply = cache.get(body)
        if reply is None:
            return None
        replies.append(reply)
        verdict = verdict_of(reply.text, reply.cut)
        if verdict is not None:
            return Answered(verdict, tuple(replies))
        body = request_again(body, reply.text)
    return Answered(None, tuple(replies))


def _asked(body: Body, endpoint: ChatEndpoint, cache: ReplyCache) -> tuple[Answered, list[Reply]]:
    """What the server says about a question, and the replies that are new."""
    replies, new = list[Reply](), list[Reply]()
    for _ in range(ASKS):
        reply = cache.get(body)
        if reply is None:
            try:
                reply = endpoint.ask(body)
            except RefusedRequest as error:
                return Answered(None, tuple(replies), str(error)), new
            cache.add(body, reply)
            new.append(reply)
        replies.append(reply)
        verdict = verdict_of(reply.text, reply.cut)
        if verdict is not None:
            return Answered(verdict, tuple(replies)), new
        body = request_again(body, reply.text)
    return Answered(None, tuple(replies)), new


def _at_once(
    work: Callable[[Question], Any], waiting: Iterator[Question], concurrency: int, stop: Callable[[], None]
) -> Generator[Any]:
    """Results of ``work``, ``concurrency`` at once, as they come; what is under way ends before an error is raised."""
    with held_back() as interrupted, ThreadPoolExecutor(concurrency) as pool:
        running: set[Future[Any]] = {pool.submit(work, item) for item in islice(waiting, concurrency)}
        try:
            while running:
                done, running = wait(running, TICK, FIRST_COMPLETED)
                if interrupted():
                    stop()
                else:
                    running |= {pool.submit(work, item) for item in islice(waiting, len(done))}
                for future in done:
                    if not (interrupted() and isinstance(future.exception(), Stopped)):
                        yield future.result()
        finally:
            stop()

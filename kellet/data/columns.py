"""Which column of a foreign file is which column of the contract.

There are two kinds of files. Pairs: ``chosen`` and ``rejected``. Comparisons: two answers in the order in which they
were shown (``answer_a``, ``answer_b``) and ``preferred``, which says who won (kellet/data/judgements.py).
A role with several candidates is refused, with their names; what is left over is accounted for in
kellet/data/leftovers.py. Names are compared by their words: ``Response A`` is ``response_a``.
"""

import shlex
from collections.abc import Mapping, Sequence

from kellet.data.answer_names import ANSWER_STEMS, PAIRS, Answers, names_an_answer, normal, tokens, word_side
from kellet.data.exports import COUNTED, RESPONSES, UNFINISHED, parsed
from kellet.data.form import (
    BESIDE,
    COMPARISON,
    METADATA,
    NAMES,
    OPTIONAL,
    PAIR,
    PREFERRED,
    PROMPTS,
    SYSTEMS,
    Form,
    Said,
)
from kellet.data.implicit import answers_hold_prompt, begin_with_prompt, no_prompt, refuse_lists
from kellet.data.pair_names import pairs_by_name
from kellet.data.refusals import missing_columns, no_column_twice, several_prompts
from kellet.data.survey import Survey, number_of
from kellet.data.who_won import asks_who, says_who
from kellet.errors import DataError


def find_columns(seen: Survey, said: Said) -> Form:
    """Which column is which. Raises DataError naming what is missing or has several candidates, and how to say it."""
    given = dict(said.columns)
    absent = [f"{ours}={theirs}" for ours, theirs in given.items() if theirs not in seen.columns]
    if absent:
        raise DataError(f"{seen.path}: mapped {', '.join(absent)}, found the columns {seen.names()}")
    no_column_twice(seen, given)
    finder = _Finder(seen, said)
    names = {**finder.contract(), **given}
    if _is_pair(finder, names):
        names |= finder.judged_by(names)
        names = {name: names[name] for name in ("prompt", *PAIR, *OPTIONAL, *BESIDE) if name in names}
        return finder.with_prompt(names, PAIR, comparison=False)
    half = {name: theirs for name, theirs in names.items() if name in PAIR and name not in given}
    names = {name: theirs for name, theirs in names.items() if name not in half}
    names |= finder.answers(names)
    names |= finder.preferred(names)
    missing = [name for name in COMPARISON if name not in names]
    if missing:
        raise DataError(missing_columns(seen, half | names, bool(finder.prompts(names))))
    names |= finder.judged_by(names)
    return finder.with_prompt(names, ("answer_a", "answer_b"), comparison=True)


class _Finder:
    """Candidates for each role among the columns of a file."""

    def __init__(self, seen: Survey, said: Said) -> None:
        self.seen, self.said = seen, said
        told = {theirs for ours, theirs in said.columns.items() if ours != "margin"}
        self.free = [name for name in seen.columns if name not in said.ignored and name not in told]

    def contract(self) -> dict[str, str]:
        """Columns that have the contract's own name, in any capitals."""
        names: dict[str, str] = {}
        for ours in ("prompt", *PAIR, *COMPARISON, *OPTIONAL):
            exact = [name for name in self.free if name == ours]
            alike = [name for name in self.free if normal(name) == ours]
            if exact or alike:
                names[ours] = self.one(ours, exact or alike)
        return names

    def one(self, ours: str, candidates: Sequence[str]) -> str:
        """The only candidate. Raises DataError when there are several."""
        if len(candidates) > 1:
            named = ", ".join(map(repr, sorted(candidates)))
            ways = " or ".join(f"--map {shlex.quote(f'{ours}={name}')}" for name in sorted(candidates))
            raise DataError(f"{self.seen.path}: {named} could each be {ours}; say which one: {ways} (data.columns)")
        return candidates[0]

    def filled(self, wanted: Sequence[str]) -> list[str]:
        """Columns with a value and one of these names, in the order of ``wanted``."""
        order = {name: place for place, name in enumerate(wanted)}
        found = [name for name in self.free if normal(name) in order and self.seen.columns[name].filled]
        return sorted(found, key=lambda name: (order[normal(name)], name))

    def pair(self, names: Mapping[str, str]) -> dict[str, str]:
        """Chosen and rejected under other names, where there are no two answers beside them."""
        pairs = pairs_by_name(self.seen, self.free)
        if not pairs or "answer_a" in names or (len(pairs) == 1 and self.answers(names)):
            return {}
        for ours, columns in zip(PAIR, zip(*pairs, strict=True), strict=True):
            self.one(ours, sorted(set(columns)))
        return dict(zip(PAIR, pairs[0], strict=True))

    def answers(self, names: Mapping[str, str]) -> dict[str, str]:
        """The two answers, by names that differ in a or b, 0 or 1, 1 or 2, left or right."""
        if "answer_a" in names or "answer_b" in names:
            return {}
        groups: dict[tuple[tuple[str, ...], int], dict[str, list[str]]] = {}
        for name in self.free:
            words, column = tokens(name), self.seen.columns[name]
            for place, word in enumerate(words):
                stem = words[:place] + words[place + 1 :]
                if stem in ANSWER_STEMS and (column.textual or not column.filled) and _counts(word):
                    groups.setdefault((stem, place), {}).setdefault(word, []).append(name)
        found = [(pair, group) for group in groups.values() for pair in PAIRS if set(pair) <= set(group)]
        if len({id(group) for _, group in found}) > 1:
            self.one("answer_a", [self.one("answer_a", group[pair[0]]) for pair, group in found])
        if not found:
            return self._called_by_winner()
        pair, group = found[0]
        if len(found) > 1 or len([word for word in group if word.isdigit() or len(word) == 1]) > 2:
            columns = ", ".join(repr(name) for names in group.values() for name in names)
            raise DataError(
                f"{self.seen.path}: {columns} are more than two answers; make pairs of them, or say which two: "
                "--map answer_a=COLUMN --map answer_b=COLUMN (and --ignore the others)"
            )
        return {
            f"answer_{side}": self.one(f"answer_{side}", group[word]) for side, word in zip("ab", pair, strict=True)
        }

    def _called_by_winner(self) -> dict[str, str]:
        """The two columns whose names are the values of the column that says who won; not those that name models."""
        for name in self.filled(["preferred", *PREFERRED]):
            named = [
                column for column in self.free if column.casefold() in self.seen.columns[name].codes and column != name
            ]
            named = [column for column in named if tokens(column)[:1] != ("model",) and self._has_words(column)]
            if len(named) == 2:
                return dict(zip(("answer_a", "answer_b"), sorted(named), strict=True))
        return {}

    def _has_words(self, name: str) -> bool:
        column = self.seen.columns[name]
        return column.textual and column.words >= 2 * column.counted

    def preferred(self, names: Mapping[str, str]) -> dict[str, str]:
        """Who won: by its name, by a name that says what is true, or the responses of an annotation tool."""
        if "preferred" in names:
            return {}
        taken = {theirs for ours, theirs in names.items() if ours != "margin"}
        words = [*PREFERRED, "chosen"] if "answer_a" in names else PREFERRED
        named = self._about_who([name for name in self.filled(words) if name not in taken], names)
        about = Answers(names["answer_a"], names["answer_b"]) if {"answer_a", "answer_b"} <= set(names) else None
        others = {name: self.seen.columns[name] for name in self.free if about and name not in (*taken, *named)}
        asks = [name for name, column in others.items() if about and says_who(column, about)]
        responses = [name for name in self.free if name.endswith(RESPONSES) and name not in taken]
        candidates = [*named, *asks, *(name for name in responses if not self._says_why(name) or len(responses) == 1)]
        if better := [name for name in candidates if normal(name) == "better_response_id"]:
            candidates = better  # PKU-SafeRLHF, beside safer_response_id
        if len(candidates) > 1 and "answer_a" not in names:
            return {}
        if all("strength" in tokens(name) for name in candidates):
            asked = [name for name, column in others.items() if about and asks_who(column, about)]
            candidates = asked or candidates
        return {"preferred": self.one("preferred", candidates)} if candidates else {}

    def _about_who(self, named: list[str], names: Mapping[str, str]) -> list[str]:
        """Of several, without strengths and the words of judges, which say how much and why."""
        answers = [names[side] for side in ("answer_a", "answer_b") if side in names]
        told = [
            name
            for name in named
            if "strength" not in tokens(name)
            and not (self.seen.columns[name].prose and not self.seen.repeats(name, (), answers))
        ]
        return told if len(named) > 1 and told else named

    def _says_why(self, name: str) -> bool:
        """Whether annotators wrote texts here, beside their judgement."""
        return self.seen.columns[name].prose or bool(set(tokens(name)) & METADATA)

    def judged_by(self, names: Mapping[str, str]) -> dict[str, str]:
        """The annotators and states beside the responses of an annotation tool, or the state of the record."""
        users, status = names.get("preferred", "") + ".users", names.get("preferred", "") + ".status"
        found = {"annotator": users} if users in self.free and "annotator" not in names else {}
        if "status" in names:
            return found
        if status in self.free:
            return found | {"status": status}
        states = set(self.seen.columns["status"].codes) if "status" in self.free else set()
        return found | ({"status": "status"} if states & set(UNFINISHED) and states <= {*COUNTED, *UNFINISHED} else {})

    def with_prompt(self, names: dict[str, str], sides: tuple[str, str], comparison: bool) -> Form:
        """The form with its prompt and the parts of it that have columns of their own."""
        implicit = answers_hold_prompt(self.seen, names[sides[0]], names[sides[1]], names.get("prompt"))
        if implicit and "prompt" not in self.said.columns and not _is_conversation(self.seen, names, sides):
            names = {name: theirs for name, theirs in names.items() if name != "prompt"}
        if "prompt" not in names and not implicit:
            candidates = self.prompts(names)
            if len(candidates) > 1:
                raise DataError(several_prompts(self.seen, candidates))
            if candidates:
                names["prompt"] = candidates[0]
            else:
                implicit = no_prompt(self.seen, names, sides, self.said.prompt_from, self.free)
        names |= self._parts(names)
        order = [name for name in NAMES if name in names]
        sides_of_file = (names[sides[0]], names[sides[1]])
        refuse_lists(self.seen, [*sides_of_file, *([names["prompt"]] if "prompt" in names else [])])
        if "prompt" in names:
            implicit = "repeated" if begin_with_prompt(self.seen, names["prompt"], sides_of_file) else ""
        before = "history" in names and not self._turns(names["history"])
        return Form({name: names[name] for name in order}, comparison, implicit, before)

    def prompts(self, names: Mapping[str, str]) -> list[str]:
        candidates = [
            name
            for name in sorted({*self.filled(PROMPTS), *self._inner()}, key=lambda name: PROMPTS.index(_last(name)))
            if name not in names.values() and self.seen.columns[name].textual
        ]
        if {"instruction", "input"} <= {normal(name) for name in candidates}:
            candidates = [name for name in candidates if normal(name) != "input"]
        if len(candidates) > 1:
            candidates = [name for name in candidates if not (normal(name) == "history" and self._turns(name))]
        return [
            name
            for place, name in enumerate(candidates)
            if not any(
                self.seen.repeats(name, [other]) and (place > at or not self.seen.repeats(other, [name]))
                for at, other in enumerate(candidates)
                if other != name
            )
        ]

    def _inner(self) -> list[str]:
        """Columns inside an object whose last name is that of a prompt, such as info.post."""
        return [
            name
            for name in self.free
            if "." in name
            and _last(name) in PROMPTS
            and not name.startswith("task.")
            and self.seen.columns[name].filled
        ]

    def _parts(self, names: Mapping[str, str]) -> dict[str, str]:
        """input, system, history and tools, where their columns have a value."""
        parts: dict[str, str] = {}
        free = [name for name in self.free if name not in names.values() and self.seen.columns[name].filled]
        for name in free:
            called = normal(name)
            part = "system" if called in SYSTEMS else called if called in ("input", "history", "tools") else ""
            alpaca = part != "input" or normal(names.get("prompt", "")) == "instruction"
            turns = part != "history" or self._turns(name)
            if part and alpaca and turns and part not in names:
                parts[part] = self.one(part, [name, *([parts[part]] if part in parts else [])])
        return parts

    def _turns(self, name: str) -> bool:
        """Whether a column holds lists, of messages or of [user, assistant], as LLaMA-Factory writes a history."""
        return all(isinstance(parsed(values.get(name) or []), list) for _, values in self.seen.sample)


def _is_pair(finder: _Finder, names: dict[str, str]) -> bool:
    """Whether the file has chosen and rejected answers, and not names of answers in columns called so."""
    if not set(PAIR) <= set(names):
        if not {*COMPARISON, *PAIR} & set(finder.said.columns):
            names |= finder.pair(names)
        return set(PAIR) <= set(names)
    if set(PAIR) & set(finder.said.columns):
        return True
    column = finder.seen.columns[names["chosen"]]
    codes = [code.value for code in column.codes.values()]
    if column.many or not codes or any(len(str(code)) > 24 for code in codes):
        return True
    answers = {**finder.answers(names), **names}
    if "answer_a" not in answers or "answer_b" not in answers:
        if all(names_an_answer(code) for code in codes):
            columns = finder.seen.names()
            raise DataError(
                f"{finder.seen.path}: 'chosen' names answers, such as {codes[0]!r}, and no columns hold them; found "
                f"{columns}; say which do: --map answer_a=COLUMN --map answer_b=COLUMN (data.columns)"
            )
        return True
    about = Answers(answers["answer_a"], answers["answer_b"])
    return not all(number_of(code) is not None or word_side(code, about) for code in codes)


def _is_conversation(seen: Survey, names: Mapping[str, str], sides: tuple[str, str]) -> bool:
    """Whether the answers are lists of messages, beside which a prompt column is compared row by row."""
    return all(seen.columns[names[side]].kinds["messages"] for side in sides)


def _counts(word: str) -> bool:
    return word.isdigit() or len(word) == 1 or any(word in pair for pair in PAIRS)


def _last(name: str) -> str:
    whole = normal(name)
    return whole if whole in PROMPTS else normal(name.rsplit(".", 1)[-1])

"""A chat: which model answers, what is remembered, what a blind reader sees; answers cannot steer the terminal."""

import pytest

from kellet.config.training import Lora
from kellet.evaluation.chat import Chat, printable, side_by_side, talk, talk_blind
from kellet.models.sampling import generate_text
from kellet.models.trunk import add_adapter, save_adapter
from tests.helpers import tiny
from tests.helpers.command import kellet
from tests.helpers.tiny import perturb

TEXT = tiny.config().text
ASKED = list(tiny.pairs()["prompt"][:6])


@pytest.fixture(scope="module")
def trunk():
    model, tokenizer = tiny.base()
    return perturb(add_adapter(model, Lora(rank=2), seed=0).eval()), tokenizer


def reader(*lines):
    """Returns the lines one by one, then raises EOFError."""
    waiting = list(lines)

    def read(prompt):
        if not waiting:
            raise EOFError
        return f"{waiting.pop(0)}\n"

    return read


def shown_as(answer):
    """Further lines of an answer are indented, so that only the first line of an answer starts with a name."""
    return printable(answer).replace("\n", "\n  ") or "(nothing)"


def test_the_policy_answers_beside_the_base_model_itself(trunk):
    chat = Chat(*trunk, TEXT, "policy")
    answers = [chat.ask(prompt) for prompt in ASKED]
    assert [answer["policy"] for answer in answers] == generate_text(*trunk, ASKED, TEXT, None)
    assert [answer["reference"] for answer in answers] == generate_text(*tiny.base(), ASKED, TEXT, None)
    assert any(answer["policy"] != answer["reference"] for answer in answers)


def test_a_seed_repeats_the_chat_and_another_does_not(trunk):
    def answers(seed):
        chat = Chat(*trunk, TEXT, "policy", seed)
        return [chat.ask(ASKED[0]) for _ in range(6)]

    assert answers(1) == answers(1) != answers(2)
    assert len({answer["reference"] for answer in answers(1)}) > 1  # the same message, asked again


def test_each_system_remembers_its_own_words_until_a_new_conversation(trunk):
    chat = Chat(*trunk, TEXT, "policy", conversation=True)
    first = chat.ask("hello")
    chat.ask("and then?")
    for system in ("policy", "reference"):
        messages = [(message["role"], message["content"]) for message in chat.messages[system]]
        assert messages[:3] == [("user", "hello"), ("assistant", first[system]), ("user", "and then?")]
    chat.forget()
    assert chat.ask("hello") == first


def test_a_pipe_gets_a_line_for_each_system_and_ends_with_the_input(trunk):
    shown = []
    talk(Chat(*trunk, TEXT, "policy"), reader(ASKED[0], "", ASKED[1]), shown.append, None)
    expected = zip(*(generate_text(*model, ASKED[:2], TEXT, None) for model in (trunk, tiny.base())), strict=True)
    assert shown == [f"policy: {shown_as(a)}\nreference: {shown_as(b)}" for a, b in expected]


def test_a_blind_reader_sees_no_name_before_the_vote_and_votes_count_for_the_system_meant(trunk):
    turns, lines = 16, []
    read = reader(*(line for number in range(turns) for line in (ASKED[0], "A" if number % 2 else "b")))
    votes = talk_blind(Chat(*trunk, TEXT, "policy", seed=3), read, lines.append, None)
    again, meant = Chat(*trunk, TEXT, "policy", seed=3), []
    for number, (shown, names) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        answers = {name: shown_as(text) for name, text in again.ask(ASKED[0]).items()}
        first, second = (name.split()[-1] for name in names.split(", "))
        assert shown == f"A: {answers[first]}\nB: {answers[second]}"
        meant.append(first if number % 2 else second)
    assert votes == {name: meant.count(name) for name in set(meant)}
    assert len(set(lines[1::2])) == 2  # both orders occur


def test_an_unknown_vote_is_not_counted(trunk):
    shown = []
    votes = talk_blind(Chat(*trunk, TEXT, "policy"), reader(ASKED[0], "both", ASKED[1], "tie"), shown.append, None)
    assert votes == {"tie": 1}
    assert shown[1].endswith("; not counted")


def test_two_columns_are_side_by_side():
    assert side_by_side({"policy": "one two three four five six", "reference": "short"}, 43).splitlines() == [
        "policy               | reference",
        "------               | ---------",
        "one two three four   | short",
        "five six             |",
    ]


def test_an_answer_cannot_steer_the_terminal():
    assert printable("a\x1b[31mb\r\n\x07é") == "a\\x1b[31mb\\r\n\\x07é"


def test_the_verb_talks_to_a_folder_and_names_what_is_missing(trunk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("name: run\ntext: {max_prompt_tokens: 24, max_response_tokens: 10}\n")
    save_adapter(trunk[0], tmp_path / "policy/adapter")
    base = ("--base", str(tiny.folder() / "base"))
    result = kellet("chat", "--policy", "policy", *base, input=f"{ASKED[0]}\n")
    (answer,) = generate_text(*trunk, ASKED[:1], TEXT, None)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == f"policy: {shown_as(answer)}".splitlines()[0]
    blind = kellet("chat", "--policy", "policy", *base, "--blind", input=f"{ASKED[0]}\na\n")
    assert blind.output.splitlines()[-1] in {
        "better: policy 1, reference 0, tie 0",
        "better: policy 0, reference 1, tie 0",
    }
    for arguments, message in (
        (("--policy", "none"), "none/adapter does not exist; make it with 'kellet train-policy'"),
        (("--policy", "policy"), "base does not exist; make it with 'kellet train-base'"),
        (("--policy", "policy", "--model", "x"), "both name a policy"),
        ((), "is no project of Kellet (adapters/registered.py is missing)"),
    ):
        refused = kellet("chat", *arguments)
        assert refused.exit_code == 2
        assert message in refused.stderr

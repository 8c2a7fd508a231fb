"""The documentation and the code name the same things.

Everything here is read from the sources, so that a metric or parameter that no test happens to log counts too.
"""

import ast
import re

import click
import pytest

from kellet.cli.main import main
from tests.helpers.project import ROOT

KELLET = ROOT / "kellet"
PAGES = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))
LOGGING = {
    "train_policy.py": ("iterate",),
    "ppo_update.py": ("update", "_loss"),
    "policy_metrics.py": ("describe_objective", "describe_lengths", "describe_stopping"),
    "train_reward.py": ("Fitting",),
    "reward_card.py": ("reward_card",),
    "calibration.py": ("calibration", "reliability"),
    "base_model.py": ("fit",),
}
"""The functions whose dictionaries become history.jsonl, card.json or progress."""
NO_METRICS = {"params", "lr", "weight_decay", "unit", "rng", "history", "schedule"}
"""Keys of torch.optim's parameter groups, of checkpoints, and of the text that says a figure's unit."""


def logged(tree):
    """String keys of a function's dictionaries: of literals, of ``name["key"] = …``, of comprehensions over them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = node.keys
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            keys = [node.slice]
        else:
            continue
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def code_metrics():
    """{metric or card field: file} of everything that the functions of LOGGING can log."""
    found = {}
    for file, functions in LOGGING.items():
        defined = {
            node.name: node
            for node in ast.parse((KELLET / file).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for function in functions:
            for key in set(logged(defined[function])) - NO_METRICS:
                found[key] = file
    return found


def documented():
    """Names in the first column of the tables of docs/reference/metrics.md."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    return {
        name for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    }


@pytest.mark.parametrize("metric", sorted(code_metrics()))
def test_every_metric_that_the_code_logs_is_documented(metric):
    assert metric in documented(), f"{metric} ({code_metrics()[metric]}) is not in the tables of docs/reference/metrics.md"


def test_the_search_finds_what_is_known_to_be_logged():
    """From the interface of history.jsonl and card.json; a search that finds nothing would pass every test above."""
    known = {"iteration", "objective/kl", "objective/kl_target", "ppo/grad_norm", "ppo/epochs", "time/update_s"}
    known |= {"reward_model/gamma", "step", "base/loss", "lift", "temperature", "accuracy_longer_rejected"}
    assert known <= set(code_metrics())


def test_no_metric_is_documented_that_does_not_exist():
    text = "".join(file.read_text() for folder in ("kellet", "tasks") for file in (ROOT / folder).glob("*.py"))
    strange = [name for name in documented() if f'"{name}"' not in text and "/" in name and "NAME" not in name]
    assert strange == []


def undescribed(tree):
    """``Section.field`` of every field that no text follows; a nested section has the text of its class."""
    sections = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, section in sections.items():
        for number, node in enumerate(section.body):
            if not isinstance(node, ast.AnnAssign) or getattr(node.annotation, "id", None) in sections:
                continue
            after = section.body[number + 1] if number + 1 < len(section.body) else None
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                yield f"{name}.{node.target.id}"


def test_every_parameter_says_what_it_means():
    source = "".join(file.read_text() for file in sorted((KELLET / "config").glob("*.py")))
    assert list(undescribed(ast.parse(source))) == []


def test_a_parameter_without_a_text_is_seen():
    source = 'class A:\n    x: int = 1\n    """Told."""\n    y: int = 2\n\nclass B:\n    a: A = A()\n    z: int = 3\n'
    assert list(undescribed(ast.parse(source))) == ["A.y", "B.z"]


def readme():
    return (ROOT / "README.md").read_text()


def test_the_readme_is_at_most_150_lines():
    assert len(readme().splitlines()) <= 150


def test_every_make_target_of_the_readme_exists():
    told = set(re.findall(r"\bmake ([a-z]+)", "\n".join(code_of(readme()))))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= told <= targets


@pytest.mark.parametrize(
    "page", ["README.md", "docs/use/operations.md", "docs/use/gate.md", "docs/use/diagnosis.md", "data/README.md"]
)
def test_every_verb_and_option_of_a_page_exists(page):
    for command in re.findall(r"\bkellet ([a-z][^`\n|#]*)", "\n".join(code_of((ROOT / page).read_text()))):
        verb, *rest = command.split()
        assert verb in main.commands, command
        found = main.commands[verb]
        if isinstance(found, click.Group) and rest:
            assert rest[0] in found.commands, command
            found = found.commands[rest[0]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, command


def test_the_readme_names_every_verb():
    told = set(re.findall(r"\bkellet ([a-z-]+)", "\n".join(code_of(readme()))))
    assert set(main.commands) <= told


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_named_file_exists(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = re.findall(r"`((?:kellet|tasks|flows|docs|profiles)/[\w/.-]+\.\w+)`", text)
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    missing += [name for name in named if not (ROOT / name).exists() and "mine" not in name]  # the reader's own
    assert missing == []


def code_of(text):
    """Fenced blocks that are no output, and code in running text."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = [body for kind, body in fenced.findall(text) if kind != "text"]
    return blocks + re.findall(r"`([^`\n]+)`", fenced.sub("", text))

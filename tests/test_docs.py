"""The documentation and the code name the same things.

Everything here is read from the sources, so that a metric or parameter that no test happens to log counts too.
"""

import ast
import re
import tomllib
from functools import cache

import click
import pytest

from docs.generate import pages
from kellet.cli.main import main
from kellet.config.file import known_keys
from tests.helpers.project import ROOT

KELLET, DOCS = ROOT / "kellet", ROOT / "docs"
PAGES = sorted(
    str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "data/README.md")
)
LOGGING = {
    "policy/train.py": ("iterate",),
    "policy/update.py": ("update", "_gradient", "_loss"),
    "policy/metrics.py": ("describe_objective", "describe_lengths", "describe_stopping"),
    "reward/fitting.py": ("Fitting",),
    "reward/card.py": ("reward_card",),
    "stats/calibration.py": ("calibration", "reliability"),
    "models/base_model.py": ("fit",),
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
    text = (DOCS / "reference/metrics.md").read_text()
    return {
        name for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    }


@pytest.mark.parametrize("metric", sorted(code_metrics()))
def test_every_metric_that_the_code_logs_is_documented(metric):
    assert metric in documented(), f"{metric} ({code_metrics()[metric]}) is not in docs/reference/metrics.md"


def test_the_search_finds_what_is_known_to_be_logged():
    """From the interface of history.jsonl and card.json; a search that finds nothing would pass every test above."""
    known = {"iteration", "objective/kl", "objective/kl_target", "ppo/grad_norm", "ppo/epochs", "time/update_s"}
    known |= {"reward_model/gamma", "step", "base/loss", "lift", "temperature", "accuracy_longer_rejected"}
    assert known <= set(code_metrics())


def test_no_metric_is_documented_that_does_not_exist():
    folders = (KELLET, ROOT / "adapters", ROOT / "tasks")
    text = "".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
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
    source = "".join((KELLET / "config" / name).read_text() for name in CONFIG)
    assert list(undescribed(ast.parse(source))) == []


CONFIG = ("data.py", "training.py", "judgement.py", "run.py")


def test_a_parameter_without_a_text_is_seen():
    source = 'class A:\n    x: int = 1\n    """Text."""\n    y: int = 2\n\nclass B:\n    a: A = A()\n    z: int = 3\n'
    assert list(undescribed(ast.parse(source))) == ["A.y", "B.z"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_parameters_and_verbs_are_documented_as_they_are(page):
    assert page.read_text() == pages()[page], "run: python -m docs.generate"


def test_the_page_of_parameters_has_every_parameter():
    text = (DOCS / "reference/parameters.md").read_text()
    sections = {key.rpartition(".")[0] for key in known_keys()}
    assert [key for key in known_keys() if key not in sections and f"| `{key}` |" not in text] == []


def test_every_parameter_that_a_page_names_exists():
    known = set(known_keys())
    sections = "|".join(sorted({key.partition(".")[0] for key in known if "." in key}))
    files = r"(?!\w*\.(?:parquet|csv|json|jsonl|html|yaml|py|md)\b)(?!policy\.checkpoints)"
    wrong = [
        (page, name)
        for page in PAGES
        if page != "CHANGELOG.md"  # it names what is gone
        for code in code_of((ROOT / page).read_text())
        for name in re.findall(rf"(?<![\w/.-]){files}((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)", code)
        if name not in known
    ]
    assert wrong == []


def readme():
    return (ROOT / "README.md").read_text()


def test_the_readme_is_at_most_120_lines_and_none_is_a_wall():
    lines = readme().splitlines()
    assert len(lines) <= 120
    assert max(len(line) for line in lines if not line.startswith("![")) <= 160


@pytest.mark.parametrize("page", ["use/gate.md", "use/diagnosis.md"])
def test_gate_and_diagnosis_are_read_in_ten_minutes(page):
    prose = re.sub(r"^```.*?^```", "", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= 1350


def test_every_make_target_of_the_readme_exists():
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join(code_of(readme()))))
    assert {"demo", "test"} <= named <= targets()


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_and_script_of_a_page_exists(page):
    code = "\n".join(code_of((ROOT / page).read_text()))
    assert set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) <= targets()
    scripts = re.findall(r"\bpython ((?:benchmarks|docs)/\w+\.py)", code)
    modules = re.findall(r"\bpython -m ((?:flows|docs|adapters)\.(?!NAME)\w+)", code)
    scripts += [f"{module.replace('.', '/')}.py" for module in modules]
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_and_option_of_a_page_exists(page):
    for command in re.findall(r"\bkellet ([a-z][^`\n|#]*)", "\n".join(code_of((ROOT / page).read_text()))):
        verb, *rest = command.split()
        if verb == "data" and not rest:
            continue
        assert verb in main.commands, command
        found = main.commands[verb]
        if isinstance(found, click.Group) and rest:
            assert rest[0] in found.commands, command
            found = found.commands[rest[0]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, command


@pytest.mark.parametrize("page", PAGES)
def test_every_option_of_a_flow_exists(page):
    source = (ROOT / "flows/cli.py").read_text()
    options = set(re.findall(r'"(--[a-z]+)"', source))
    for command in re.findall(r"python -m flows\.[a-z]+([^`\n|#]*)", "\n".join(code_of((ROOT / page).read_text()))):
        assert {word for word in command.split() if word.startswith("--")} <= options | {"--help"}, command


def test_the_reference_names_every_verb_and_flow():
    text = (DOCS / "reference/verbs.md").read_text()
    named = set(re.findall(r"\bkellet ([a-z-]+)", "\n".join(code_of(text))))
    assert set(main.commands) <= named
    flows = [f"flows.{path.stem}" for path in (ROOT / "flows").glob("*.py") if path.stem not in ("__init__", "cli")]
    assert [flow for flow in flows if f"`{flow}`" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_named_file_exists(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", prose_of(text)) if "://" not in link]
    folders = "kellet|adapters|tasks|flows|docs|profiles|tests|benchmarks|data"
    named = re.findall(rf"`((?:{folders})/[\w/.-]+\.\w+)`", text)
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    missing += [name for name in named if not made_by_a_command(name) and not (ROOT / name).exists()]
    assert missing == []


def made_by_a_command(name):
    """Whether it is the reader's own, or not in git."""
    return "mine" in name or name.startswith(("data/prepared/", "data/restored/")) or "NAME" in name


@pytest.mark.parametrize("page", PAGES)
def test_every_anchor_exists(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", prose_of((ROOT / page).read_text())):
        if "://" not in link:
            target = (ROOT / page).parent / link if link else ROOT / page
            assert anchor in anchors(target.resolve()), f"{link}#{anchor}"


@cache
def anchors(page):
    """Anchors of a page's headings, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_a_heading_is_no_paragraph(page):
    """A line end that is lost behind a heading makes one of the paragraph below."""
    headings = re.findall(r"^#+ .*$", prose_of((ROOT / page).read_text()), re.MULTILINE)
    assert [heading for heading in headings if len(heading) > 90] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_a_page_of_the_site_links_to_pages_of_the_site(page):
    """A link that leaves docs/ works on a code host and is dead in the site."""
    links = re.findall(r"\]\(([^)#\s]+)", prose_of((ROOT / page).read_text()))
    outside = [
        link for link in links if "://" not in link and not ((ROOT / page).parent / link).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_the_site_and_the_index_have_every_page():
    pages_of_docs = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert set(navigation(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])) == pages_of_docs
    index = set(re.findall(r"\]\(([^)#\s]+)", (DOCS / "README.md").read_text()))
    assert pages_of_docs - index == {"README.md"}


def test_the_site_leaves_formulas_as_they_are():
    """By default σ(r) becomes σ® and T^(2/3) a fraction; nothing is left on by default once extensions are named."""
    extensions = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["markdown_extensions"]
    assert "superfences" in extensions["pymdownx"]
    assert not {"smartsymbols", "caret", "tilde", "arithmatex"} & set(extensions["pymdownx"])


def navigation(entries):
    for entry in entries:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else navigation(place)


def test_the_names_in_contributing_exist():
    """`file`: `name`, `name` — each name is in the file."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^- `([\w/.]+)`: ((?:`\w+`(?:, | is | are )?)+)", text, re.MULTILINE)
    assert len(lines) >= 15
    wrong = [
        (file, name)
        for file, names in lines
        for name in re.findall(r"`(\w+)`", names)
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]
    assert wrong == []


def test_contributing_has_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [path.parent.name for path in KELLET.glob("*/__init__.py")]
    assert [room for room in rooms if f"\n  {room}/ " not in text] == []


def prose_of(text):
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_of(text):
    """Fenced blocks that are no output, and code in running text."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = [body for kind, body in fenced.findall(text) if kind != "text"]
    return blocks + re.findall(r"`([^`\n]+)`", fenced.sub("", text))

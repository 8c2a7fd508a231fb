"""Write the generated part of docs/reference/parameters.md and docs/reference/verbs.md: ``python -m docs.generate``.

The texts are the docstrings under the fields of kellet/config/ and the help of each verb. What stands above the mark in
a page is written by hand and stays. tests/test_docs.py compares both pages with the code, so that neither goes stale.
"""

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path

import click

from kellet.cli.main import main
from kellet.config.data import Section
from kellet.config.run import Config

REFERENCE = Path(__file__).parent / "reference"

MARK = "<!-- From here on made from the code by `python -m docs.generate`; change the code and run it again. -->\n"


def descriptions(section: type[Section]) -> dict[str, str]:
    """The docstring under each field of a section, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0].body
    texts = {}
    for field, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            texts[field.target.id] = " ".join(str(after.value.value).split())
    return texts


def allowed(schema: dict) -> str:
    """What a value may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(allowed(item) for item in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of: {allowed(schema['items'])}"
    if schema.get("type") == "object":
        return "mapping"
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
    }
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([words[schema["type"]], ", ".join(limits)]).strip()


def rows(section: type[Section], prefix: str) -> list[str]:
    """A table row for each parameter of a section, nested sections included."""
    texts, schemas = descriptions(section), section.model_json_schema(by_alias=False)
    found = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found += rows(field.annotation, f"{prefix}{name}.")
            continue
        default = json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)
        text = texts[name].replace("``", "`").replace("|", "\\|")
        limits = allowed(schemas["properties"][name])
        found.append(f"| `{prefix}{name}` | `{default}` | {text} | {limits} |")
    return found


def table(section: type[Section], prefix: str) -> str:
    """The table of a section."""
    return "\n".join(["| parameter | default | meaning | values |", "|---|---|---|---|", *rows(section, prefix)])


def parameters() -> str:
    """The page of all parameters, a heading for each section."""
    sections = {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    top = [row for row in rows(Config, "") if "." not in row.split("`")[1]]
    parts = ["", "## Of the whole run", "| parameter | default | meaning | values |", "|---|---|---|---|", *top]
    for name, section in sections.items():
        about = " ".join(inspect.cleandoc(section.__doc__ or "").split())
        parts += ["", f"## {name}", about, "", table(section, f"{name}.")]
    return "\n".join(parts) + "\n"


def leaves(group: click.Group, name: str) -> list[tuple[str, click.Command]]:
    """Every verb with its whole name, in the order of the command line."""
    found = []
    for key, command in group.commands.items():
        inside = f"{name} {key}"
        found += leaves(command, inside) if isinstance(command, click.Group) else [(inside, command)]
    return found


def option(parameter: click.Option) -> str:
    """An option's row: names and what it takes, meaning, default."""
    kind = parameter.metavar or ("" if parameter.is_flag else parameter.type.name.upper())
    if isinstance(parameter.type, click.Choice):
        kind = ", ".join(parameter.type.choices)
    default = parameter.default if parameter.show_default else None
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    text += f" Default: {default}." if default is not None else ""
    return f"| `{' '.join([*parameter.opts, kind]).strip()}` | {text.strip()} |"


def verb(name: str, command: click.Command) -> str:
    """A verb's section: what it does, how it is called, its options, an example."""
    arguments = " ".join(
        f"[{a.name.upper()}]" if not a.required else a.name.upper() + (" …" if a.nargs == -1 else "")
        for a in command.params
        if isinstance(a, click.Argument)
    )
    help_text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))
    options = [option(p) for p in command.params if isinstance(p, click.Option)]
    example = (command.epilog or "").removeprefix("Example: ")
    parts = [f"## {name}", help_text, "", "```", f"{name} {arguments}".strip() + " [OPTIONS]", "```"]
    parts += ["", "| option | meaning |", "|---|---|", *options] if options else []
    return "\n".join([*parts, *(["", f"Example: `{example}`"] if example else [])])


def verbs() -> str:
    """The page of all verbs."""
    found = leaves(main, "kellet")
    lines = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {command.get_short_help_str(200)} |" for name, command in found
    ]
    overview = "\n".join(["| verb | does |", "|---|---|", *lines])
    return "\n".join(["", "## All verbs", overview, "", "\n\n".join(verb(*each) for each in found)]) + "\n"


def pages() -> dict[Path, str]:
    """Each generated page as it should be: its part written by hand, the mark, and what the code gives."""
    made = {REFERENCE / "parameters.md": parameters(), REFERENCE / "verbs.md": verbs()}
    return {path: path.read_text(encoding="utf-8").partition(MARK)[0] + MARK + text for path, text in made.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")

"""Stories of the documentation: the files, commands, options, settings, verdicts and keys that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from grid.cli.app import app
from grid.core.conf import GridSettings
from tasks.result import Result
from tasks.verdicts import CLASS_OF, Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
# Variables of the client, the node and the command line, which are not settings of the server.
CLIENT_VARIABLES = {"GRID_SERVER", "GRID_TOKEN", "GRID_TOKEN_FILE", "GRID_CONFIG"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def words(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page give, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", words(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", words(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


@pages
def test_every_file_of_ours_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:tasks|grid|nodes|observer|webapp|tests|scripts|docs|examples)/[\w./-]*)`", words(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pages
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {f"GRID_{name.upper()}" for name in GridSettings.model_fields} | CLIENT_VARIABLES
    named = set(re.findall(r"\bGRID_[A-Z_]+\b", words(page)))
    assert {name for name in named if not known & {name, name.removesuffix("_FILE")}} == set()


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every command ``grid ...`` that stands in code, without comments and what follows a pipe."""
    blocks = "\n".join(re.findall(r"^```(?:console|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    inline = re.findall(r"`(grid [^`]+)`", text)
    in_blocks = re.findall(r"(?:^[$#] (?:.*\s)?|\$\(|\bdo |/)(grid [a-z][^#\n|;)&]*)", blocks, re.MULTILINE)
    for line in (*inline, *in_blocks):
        yield line.split()[1:]


@pages
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    root = typer.main.get_command(app)
    for line in commands_in(words(page)):
        command: Any = root  # typer brings its own copy of click, whose types are private
        rest = [word for word in line if word != "..."]
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            default = getattr(command, "default", "")
            name = default if default and rest[0] not in command.commands else rest.pop(0)
            assert name in command.commands, f"{page.name}: grid {' '.join(line)}"
            command = command.commands[name]
        if default := getattr(command, "default", ""):
            command = command.commands[default]
        if command.context_settings.get("ignore_unknown_options"):
            continue  # the options are those of the node's own program
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert used <= known | {"-h", "--help"}, f"{page.name}: grid {' '.join(line)}"


def test_the_commands_of_the_tour_are_found_by_this_test() -> None:
    found = [" ".join(line) for line in commands_in(words(ROOT / "README.md"))]
    assert {"up", "run examples/hello results", "submit examples/slow", "logs -f $id"} <= {one.strip() for one in found}


def test_every_verdict_has_a_row_under_its_class() -> None:
    page = words(ROOT / "docs" / "verdicts.md")
    sections = re.findall(r"^## Class (\w+)\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    rows = {word: kind for kind, text in sections for word in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)}
    assert rows == {str(verdict): str(CLASS_OF[verdict]) for verdict in Verdict}


def test_every_key_of_a_result_is_explained() -> None:
    section = words(ROOT / "docs" / "verdicts.md").partition("## result.json")[2]
    explained = {
        key for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    }
    assert {field.alias or name for name, field in Result.model_fields.items()} == explained

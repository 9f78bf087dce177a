"""The documentation tells the truth: every command and every block of Python of the README and docs/ works.

Blocks run in one work folder, page after page, since later pages use the labels of the quick start. A block below the
comment `<!-- not run: REASON -->` is only parsed, by the commands themselves. A block with a title is a file that the
blocks below it read.
"""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer import TyperException
from typer.main import get_command

from glip_cli.main import app
from tests.conftest import ROOT, CommandResult

PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
# Commands of these pages run in tests of their own, on data that the other pages do not have.
TESTED_ELSEWHERE = {"docs/formats.md": "tests/labeling/test_formats_page.py"}
# The pages that run something; the quick start makes the labels that the others use.
RUN = ["docs/quick-start.md", *(page for page in PAGES if page not in ("docs/quick-start.md", *TESTED_ELSEWHERE))]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of a page; `where` is its page and line."""

    where: str
    language: str
    text: str
    title: str | None
    reason: str | None


def blocks_of(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(f"{page}:{line}", match["language"], match["text"], match["title"], match["reason"])


def commands_of(text: str) -> Iterator[list[str]]:
    """Yields the words of each command of a shell block, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in line.split(" && "):
            if words := shlex.split(command, comments=True):
                yield words


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.parametrize("page", RUN)
@pytest.mark.usefixtures("one_thread")
def test_what_a_page_shows_works(
    page: str, glip: Callable[..., CommandResult], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.delenv("GLIP_DATA", raising=False)
    if page != RUN[0] and not (work / "labels").exists():  # this page alone was asked for
        run_blocks(RUN[0], glip)
    run_blocks(page, glip)
    Path("glip.toml").unlink(missing_ok=True)  # for this page only


def run_blocks(page: str, glip: Callable[..., CommandResult]) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.reason is None and block.language == "bash":
            for program, *words in commands_of(block.text):
                assert program == "glip", f"{block.where} runs {program}: say why it is not run"
                done = glip(*words)
                assert done.code == 0, f"{block.where}: glip {shlex.join(words)}\n{done.stderr}"
        elif block.reason is None and block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_are_commands(page: str) -> None:
    for block in blocks_of(page):
        if block.language == "bash":
            for words in commands_of(block.text):
                parse(words, block.where)
        elif block.language == "python":
            ast.parse(block.text, block.where)
        elif block.language == "toml":
            tomllib.loads(block.text)


def parse(words: list[str], where: str) -> None:
    """Has the command parse its words: options, types, arguments; runs nothing."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if "glip" in words and words[0] == "torchrun":
        words = words[words.index("glip") :]
    if words[0] != "glip":
        assert words[0] in ("pip", "pytest", "python", "docker", "make"), f"{where}: {words[0]}"
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{where}: {words[1]}"
        return
    command: Any = get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    if {"--help", "-h", "--version", "--help-json", "--install-completion"} & set(rest):
        return
    try:
        command.make_context("glip", rest)
    except TyperException as error:
        pytest.fail(f"{where}: {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is_and_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for place in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (ROOT / page).parent.joinpath(place).exists(), f"{page}: {place}"
    if page in TESTED_ELSEWHERE:
        assert page in (ROOT / TESTED_ELSEWHERE[page]).read_text(encoding="utf-8")
        return
    unnamed = re.findall(r"^```\n(glip|pip|python) .*?^```$", text, re.DOTALL | re.MULTILINE)
    assert not unnamed, page
    assert len(re.findall(r"^```\w", text, re.MULTILINE)) == len(list(blocks_of(page)))


def test_the_site_lists_every_page() -> None:
    def pages(entries: list[dict[str, Any]]) -> Iterator[str]:
        for entry in entries:
            for value in entry.values():
                if isinstance(value, str):
                    yield value
                else:
                    yield from pages(value)

    listed = set(pages(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    written = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert listed == written | {"api.md", "commands.md", "messages.md", "models.md"}


def test_messages_that_the_error_page_explains_are_in_the_code() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for room in ("glip", "glip_cli") for path in (ROOT / room).rglob("*.py")
    )
    joined = re.sub(r'"\s*f?"', "", code)
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    quoted = re.findall(r'^\| "([^"]+)" \|', page, re.MULTILINE)
    assert quoted
    for message in quoted:
        assert message in joined, message


def test_generated_pages_list_what_there_is() -> None:
    from glip.weights.zoo import ZOO

    site = runpy.run_path(str(ROOT / "docs" / "build_site.py"))
    models, commands, messages = (site[name]() for name in ("models", "commands", "messages"))
    assert all(f"[{name}](" in models for name in ZOO)
    assert "## glip review push" in commands
    assert "`--conf`" in commands
    assert "There is nothing to find. Give --prompt" in messages
    assert messages.count("JobFailed: `") > 20

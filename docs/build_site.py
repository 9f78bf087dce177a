"""Builds the documentation site into site/: `python docs/build_site.py`, which `make docs` calls.

Writes generated pages (commands, API, models, messages) beside the written ones, runs zensical, and puts the Markdown
of every page beside its HTML, with an `llms.txt` that lists them. Needs `pip install -e '.[docs]'` and no network.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "docs"
SITE = ROOT / "site"
# What a page would fetch when it is viewed; links that a reader follows are not among them.
REMOTE = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(https?:)?//', re.IGNORECASE)
# Public names that are not in `glip.__all__`, by module.
MORE_API = {
    "glip.detectors.spec": ("DetectorSpec", "InferenceOptions"),
    "glip.labeling.job": ("LabelJob", "LabelSummary", "label"),
    "glip.labeling.classes": ("ClassFile", "load_class_file"),
    "glip.labeling.export": ("export",),
    "glip.errors": ("InputError", "JobFailed", "MissingExtra"),
}
ERRORS = ("InputError", "JobFailed", "MissingExtra")


def main() -> None:
    """Builds the site; exits with 1 if a page would fetch something from the network."""
    sys.path.insert(0, str(ROOT))
    if SOURCE.exists():
        shutil.rmtree(SOURCE)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    pages = {"commands": commands(), "api": api(), "models": models(), "messages": messages()}
    for name, text in pages.items():
        (SOURCE / f"{name}.md").write_text(text, encoding="utf-8")
    if SITE.exists():
        shutil.rmtree(SITE)
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=ROOT, check=True)
    for page in SOURCE.glob("*.md"):
        shutil.copyfile(page, SITE / page.name)
    (SITE / "llms.txt").write_text(llms(), encoding="utf-8")
    if fetching := [page.name for page in SITE.glob("*.html") if REMOTE.search(page.read_text(encoding="utf-8"))]:
        sys.exit(f"These pages fetch something from the network when they are viewed: {', '.join(fetching)}.")


def commands() -> str:
    """Returns a page with every command and its options."""
    from typer.main import get_command

    from glip_cli.command_tree import read_tree
    from glip_cli.main import app

    lines = ["# Commands", ""]
    for command in read_tree(get_command(app)):
        lines += [
            f"## glip {command}",
            "",
            command.help,
            "",
            "| option | type | default | meaning |",
            "| --- " * 4 + "|",
        ]
        for entry in command.parameters:
            if entry.hidden:
                continue
            name = ", ".join((*entry.flags, *entry.off_flags)) or entry.option.upper()
            default = entry.default_text or ("required" if entry.required else _cell(entry.default))
            kind = " or ".join(entry.choices) or entry.type
            lines.append(f"| `{name}` | {kind} | {default} | {_cell(entry.help)} |")
        lines += ["", *(f"    {example}" for example in command.examples), ""]
    return "\n".join(lines)


def models() -> str:
    """Returns a page with the published checkpoints, and the card of the embedded model."""
    from glip.weights.zoo import EMBEDDED_FOLDER, ZOO

    lines = [
        "# Models",
        "",
        "Published scores: box AP on COCO val2017; fixed AP and APr (rare classes) on LVIS minival. Nothing here is",
        "measured by this project. Licences are those of the hosts.",
        "",
        "| name | architecture | trained on | COCO AP | LVIS AP | LVIS APr | scores from |",
        "| --- " * 7 + "|",
    ]
    for row in ZOO.values():
        data = row.pretraining + (f" → {row.finetuned}" if row.finetuned else "")
        scores = (row.coco_ap, row.lvis_ap, row.lvis_apr)
        cells = (f"[{row.name}]({row.url})", row.architecture, data, *map(_cell, scores), row.source)
        lines.append(f"| {' | '.join(cells)} |")
    card = (EMBEDDED_FOLDER / "README.md").read_text(encoding="utf-8")
    return "\n".join([*lines, "", re.sub(r"^#", "##", card, flags=re.MULTILINE)])


def messages() -> str:
    """Returns a page with the text of every error that the code raises, by module."""
    lines = ["# Error messages", "", "`{…}` stands for a value. Exit code 1 is for `JobFailed`, 2 for the others.", ""]
    for package in ("glip", "glip_cli"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if found := list(_raised(path)):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                lines += [f"## {module}", "", *(f"* {name}: {text}" for name, text in found), ""]
    return "\n".join(lines)


def _raised(path: Path) -> Iterator[tuple[str, str]]:
    """Yields class and text of every error that a file raises or whose class it defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [(node.func.id, node) for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_error(node.func)]
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if any(map(_is_error, kind.bases)):
            calls += [
                (kind.name, node) for node in ast.walk(kind) if isinstance(node, ast.Call) and _is_init(node.func)
            ]
    for name, call in sorted(calls, key=lambda found: found[1].lineno):
        text = _text(call.args[0]) if call.args else ""
        if text.strip("{…}"):
            yield name, f"`{text.replace('`', '’')}`"


def _is_error(node: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and node.id in ERRORS


def _is_init(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "__init__"


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return " ".join(str(node.value).split()) if not str(node.value).isspace() else " "
    if isinstance(node, ast.JoinedStr):
        parts = (
            "{…}" if isinstance(part, ast.FormattedValue) else str(getattr(part, "value", "")) for part in node.values
        )
        return " ".join("".join(parts).split())
    return "{…}"


def api() -> str:
    """Returns a page with the public names of the library, from their docstrings."""
    import griffe
    from griffe2md import default_config, render_object_docs

    import glip

    # Options of a page with one heading per name, and tables rather than lists of attributes.
    options: Any = {
        **default_config,
        "show_root_full_path": False,
        "show_object_full_path": False,
        "show_root_members_full_path": False,
        "show_signature_annotations": True,
        "docstring_section_style": "list",
        "inherited_members": False,
        "members_order": "source",
        "line_length": 100,
        "summary": False,
        "show_if_no_docstring": False,
    }
    names = [(glip._HOME[name], name) for name in glip.__all__]
    names += [(module, name) for module, more in MORE_API.items() for name in more if (module, name) not in names]
    package = griffe.load("glip", search_paths=[ROOT], docstring_parser="google")
    lines = ["# Python API", ""]
    for module, name in names:
        found: Any = package[f"{module.removeprefix('glip.')}.{name}"]
        lines += [render_object_docs(found, options), "", f"`from {_importable(module, name)} import {name}`", ""]
    # griffe2md links every type, also those that have no entry here.
    return re.sub(r"\[([^\[\]]*)\]\(#[^)]*\)", r"\1", "\n".join(lines))


def _importable(module: str, name: str) -> str:
    import glip

    return "glip" if name in glip.__all__ else module


def llms() -> str:
    """Returns a list of the pages for programs that read Markdown."""
    lines = ["# glip", "", "> Labels folders of images with anything that can be named.", "", "## Pages", ""]
    for page in sorted(SOURCE.glob("*.md")):
        title = page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"- [{title}]({page.name})")
    return "\n".join([*lines, ""])


def _cell(value: object) -> str:
    if value is None:
        return "—"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()

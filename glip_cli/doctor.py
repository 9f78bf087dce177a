"""`glip doctor`: checks this machine."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_line

if TYPE_CHECKING:
    from glip.doctor import Finding

_INDENT = " " * 18  # the state, the name and the spaces after them
_WIDTH = 100


def doctor(as_json: JsonOption = False) -> None:
    """Check this machine: each row computes, writes, starts or opens what it names. Exits with 1 if one fails."""
    from glip.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _show(finding)
    counts = Counter(finding.state for finding in findings)
    if as_json:
        print_json({"checks": [asdict(finding) for finding in findings], "counts": counts})
    else:
        print_line(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed.")
    if counts["fail"]:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    """Prints a row, with the remedy in lines of its own."""
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    head = f"{finding.state:<5} {finding.name:<12}"
    texts = [(head, finding.found), (_INDENT, f"→ {finding.remedy}")]
    for first, text in texts if finding.remedy else texts[:1]:
        for line in textwrap.wrap(text, max(20, width - len(_INDENT))) or [""]:
            print_line(f"{first:<{len(_INDENT)}}{line}")
            first = _INDENT

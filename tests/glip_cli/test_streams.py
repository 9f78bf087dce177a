"""stdout and stderr that are closed, full or broken end no job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Prints more than a pipe holds, then writes a file, as a command that prints data before its work is done.
WORK = """
import sys, os
from pathlib import Path
from glip_cli import main
from glip_cli.output import print_line, print_table, progress, say

def command() -> None:
    with progress("Working", 2) as bar:
        for _ in range(3000):
            print_line("data " * 10)
            say("talk " * 10)
        bar.advance(2)
    print_table(("name",), [["x"]])
    Path(sys.argv[1]).write_text("done")

main.app.command("work")(command)
main.run(["work"])
"""
FULL = Path("/dev/full")


def run(tmp_path: Path, redirection: str) -> tuple[int, str, bool]:
    """Returns the exit code of the command in a shell, all that was printed, and whether the work was done."""
    script, done = tmp_path / "work.py", tmp_path / "done"
    script.write_text(WORK)
    shell = f'{{ "{sys.executable}" "{script}" "{done}"; echo "code $?" >&3; }} {redirection}'
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.run(
        ["bash", "-c", f"exec 3>&1; {shell}"], capture_output=True, text=True, env=environment, check=False
    )
    text = process.stdout + process.stderr
    code = int(text.rpartition("code ")[2].split()[0])
    return code, text, done.is_file()


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [
        ("2>/dev/null | head -n 1", 0),
        (">&-", 0),
        (">&- 2>&-", 0),
        ("2>&1 | head -n 1", 0),
        pytest.param(">/dev/full", 1, marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")),
        pytest.param(">/dev/full 2>&1", 1, marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")),
    ],
)
def test_the_work_is_done_whatever_becomes_of_the_output(tmp_path: Path, redirection: str, expected: int) -> None:
    code, text, done = run(tmp_path, redirection)
    assert done
    assert code == expected
    assert "Traceback" not in text and "Exception ignored" not in text
    if redirection == ">/dev/full":
        assert "No space left on device" in text


def test_a_closed_stdout_is_not_taken_by_the_next_file(tmp_path: Path) -> None:
    script = tmp_path / "next.py"
    script.write_text(
        "import os, sys\nfrom glip_cli.streams import secure_streams\nsecure_streams()\n"
        "file = open(sys.argv[1], 'w')\nos.write(1, b'of a library')\nprint('text')\nassert file.fileno() > 2\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = f'"{sys.executable}" "{script}" "{tmp_path / "file"}" >&-'
    assert subprocess.run(["bash", "-c", words], env=environment, check=False).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    script = tmp_path / "ascii.py"
    script.write_text(
        "from glip_cli.streams import secure_streams\nsecure_streams()\n"
        "from glip_cli.output import print_json, print_table\nprint_json(['é犬'])\nprint_table('x', ['犬'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "ascii"}
    out = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[", r'"\u00e9\u72ac"', "]", "x", r"\u72ac"]

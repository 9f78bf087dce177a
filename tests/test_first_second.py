"""Bad input is refused before torch is loaded, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.first_second import CASES, command_line, write_files

RUN = """
import contextlib, io, json, sys
from glip_cli.main import run
for words in json.loads(sys.stdin.read()):
    said = io.StringIO()
    code = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            run(words)
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, said.getvalue(), "torch" in sys.modules]))
"""


def test_no_input_error_loads_torch(tmp_path: Path) -> None:
    write_files(tmp_path)
    lines = [command_line(template, tmp_path) for template, _ in CASES]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"GLIP_HOME": str(tmp_path / "home"), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(CASES)
    for (template, named), (code, said, torch) in zip(CASES, results, strict=True):
        assert not torch, f"glip {template} loads torch: {said}"
        assert code in (1, 2), template
        assert "Traceback" not in said, said
        assert named in said, (template, said)

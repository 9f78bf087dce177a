"""What is imported when: `import glip` and the command line's help answer at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "transformers", "timm", "supervision", "pycocotools", "matplotlib", "PIL", "numpy")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines()[-1].split() if name in HEAVY}


@pytest.mark.parametrize("code", ["import glip", "import glip_cli.main"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert loaded_after(code) == set()


def test_help_loads_nothing_heavy() -> None:
    code = """
import atexit
from glip_cli.main import run
atexit.register(lambda: print(*sys.modules))
HELPED = ("label", "export", "eval", "calibrate", "finetune", "pretrain")
GROUPS = (["models", "convert"], ["review", "push"], ["data", "synthetic"])
for words in ([], *([name] for name in HELPED), *GROUPS):
    try:
        run([*words, "--help"])
    except SystemExit as stop:
        assert not stop.code, stop.code
"""
    assert loaded_after(code) == set()


def test_the_public_names_are_found() -> None:
    import glip

    for name in glip.__all__:
        assert getattr(glip, name).__name__ == name
    assert set(glip.__all__) <= set(dir(glip))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = glip.nothing

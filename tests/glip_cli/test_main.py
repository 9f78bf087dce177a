"""What every command does before it begins."""

from __future__ import annotations

import os

import pytest

from glip_cli.main import run


def test_large_pages_are_asked_for_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    for expected in ("0", "1"):
        with pytest.raises(SystemExit):
            run(["--version"])
        assert os.environ["THP_MEM_ALLOC_ENABLE"] == expected
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")

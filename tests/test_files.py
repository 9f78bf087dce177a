"""Files and folders that are whole or absent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from glip.errors import JobFailed
from glip.files import whole_file, whole_folder

Whole = Callable[[Path], AbstractContextManager[object]]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_absent_until_it_is_whole(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new" / "a.txt") as file:
        file.write(b"half")
        assert not (tmp_path / "new" / "a.txt").exists()
        file.write(b" and half")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"half and half"
    assert names(tmp_path) == ["new", "new/a.txt"]


def test_an_error_leaves_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("earlier")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.txt") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with whole_folder(tmp_path / "a") as folder:
            (folder / f"{content}.txt").write_text(content)
            assert not (tmp_path / "a" / f"{content}.txt").exists()
    assert names(tmp_path) == ["a", "a/two.txt"]


def test_an_error_leaves_the_earlier_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a") as folder:
        (folder / "one.txt").write_text("one")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a") as folder:
        (folder / "two.txt").write_text("two")
        raise ZeroDivisionError
    assert names(tmp_path) == ["a", "a/one.txt"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path, whole: Whole) -> None:
    with pytest.raises(JobFailed, match=r"Cannot write .*out: No space left on device"), whole(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("whole", ["whole_file", "whole_folder"])
def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path, whole: str) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from glip.files import {whole}
with {whole}(Path(sys.argv[1])) as half:
    (half / "x").write_text("x") if isinstance(half, Path) else half.write(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert names(tmp_path)
    if whole == "whole_file":
        with whole_file(tmp_path / "out") as file:
            file.write(b"new")
        assert names(tmp_path) == ["out"]
    else:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "new").write_text("new")
        assert names(tmp_path) == ["out", "out/new"]


def test_a_folder_that_fails_leaves_no_empty_parent(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for parent in ("new", "kept"):
        with pytest.raises(ValueError, match="no"), whole_folder(tmp_path / parent / "labels"):
            raise ValueError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with whole_folder(tmp_path / "new" / "labels") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "new" / "labels" / "a.txt").is_file()

"""JSON with errors that name the file and the value; files and folders that are whole or absent."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from glip.errors import InputError, JobFailed
from glip.files import UnexpectedJson, decode_json, read_json, whole_file, whole_folder, write_json

Whole = Callable[[Path], AbstractContextManager[object]]


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"x": 3}\n')
    assert read_json(tmp_path / "a.json", Point, "a point") == Point(3)
    assert decode_json('\ufeff{"x": 3}', Point, "here", "a point") == Point(3)


def test_numbers_written_as_text_are_read_if_wanted() -> None:
    assert decode_json('{"x": "3"}', Point, "here", "a point", strict=False) == Point(3)
    with pytest.raises(UnexpectedJson, match=re.escape("$.x")):
        decode_json('{"x": "3"}', Point, "here", "a point")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"x":', "5 bytes"),
        (b'{"x": 1}\n{"x": 2}', "[ …, … ]"),
        (b'{"x": 1,\n "y": NaN}', "NaN instead of a number (line 2, byte 15)"),
        (b'{"x": 1, "y": -Infinity}', "-Infinity"),
        (b'{"x": 1,\n\n y}', "line 3, byte 11"),
        (b'{"x": "a", "y": NaN}', "NaN"),
        (b'{"z": "\xff"}', "byte 7"),
        ('{"x": 1}'.encode("utf-16"), "UTF-16"),
        (b'{"z": ' + b"[" * 100_000, "deep"),
    ],
)
def test_text_that_is_not_json_is_reported_with_its_position(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "points.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        read_json(path, Point, "a point")
    assert not isinstance(caught.value, UnexpectedJson)
    assert str(path) in str(caught.value)


def test_json_of_another_form_is_reported_with_the_position_of_the_difference(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": 1}, {"x": "one"}]')
    with pytest.raises(UnexpectedJson, match=re.escape("$[1].x")) as caught:
        read_json(tmp_path / "a.json", list[Point], "a list of points", hint="Count them.")
    assert "$[1].x" in caught.value.reason
    assert all(text in str(caught.value) for text in ("a.json", "a list of points", "Count them."))


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))):
        read_json(tmp_path / name, Point, "a point")


def test_a_file_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": 3}  ')
    assert read_json(tmp_path / "a.json", Point, "a point", max_bytes=10) == Point(3)
    with pytest.raises(InputError, match=r"\b9\b"):
        read_json(tmp_path / "a.json", Point, "a point", max_bytes=9)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"x": 1, "y": 0.1})
    assert (tmp_path / "new" / "a.json").read_bytes() == b'{\n  "x": 1,\n  "y": 0.1\n}\n'
    assert read_json(tmp_path / "new" / "a.json", Point, "a point") == Point(1, 0.1)


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
def test_a_full_disk_is_reported(tmp_path: Path, whole: Whole) -> None:
    with pytest.raises(JobFailed, match=os.strerror(errno.ENOSPC)), whole(tmp_path / "out"):
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

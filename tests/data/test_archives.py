"""Archives from elsewhere: unpacked whole, and refused before a byte leaves the folder."""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from glip.data import archives
from glip.data.archives import BadArchive, move_into, unpack, unpacked_size
from glip.errors import JobFailed


def zipped(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def into(path: Path) -> Path:
    path.mkdir()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_zip_is_unpacked_without_what_archivers_leave(tmp_path: Path) -> None:
    files = {"Set/train/1.jpg": b"one", "Set/a b/ö.json": b"{}", "__MACOSX/Set/._1.jpg": b"x", "Set/.DS_Store": b"y"}
    path = zipped(tmp_path / "a.zip", files)
    done: list[int] = []
    assert unpacked_size(path) == 5
    assert unpack(path, into(tmp_path / "out"), done.append) == 2
    assert contents(tmp_path / "out") == {"Set/train/1.jpg": b"one", "Set/a b/ö.json": b"{}"}
    assert sum(done) == 5


def test_a_tar_is_unpacked(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", (tarfile.TarInfo("./VOCdevkit/a.txt"), b"1\n"))
    unpack(path, into(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"VOCdevkit/a.txt": b"1\n"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "a\\..\\x", "a/\x1b[2J", "..", "a:stream"])
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    out = into(tmp_path / "out")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("x")
        info.filename = name
        file.writestr("good.txt", b"1")
        file.writestr(info, b"1")
    for archive in (path, tarred(tmp_path / "a.tar", (tarfile.TarInfo(name), b"1"))):
        with pytest.raises(BadArchive, match=re.escape(repr(name))):
            unpack(archive, out)
    assert not contents(out)


def test_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for archive in (tmp_path / "a.zip", tarred(tmp_path / "a.tar", (member, b""))):
        with pytest.raises(BadArchive, match="'link'"):
            unpacked_size(archive)


def test_an_archive_that_grows_beyond_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1000)
    path = zipped(tmp_path / "a.zip", {"zeros": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(BadArchive, match=r"a\.zip is refused.* \d+ bytes"):
        unpacked_size(path)
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(BadArchive, match=" 2 files"):
        unpacked_size(zipped(tmp_path / "b.zip", {"1": b"", "2": b"", "3": b""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "a.zip"
    with zipfile.ZipFile(one, "w") as file:
        file.writestr("é.txt", b"1")
        file.writestr("e\u0301.txt", b"2")
    with pytest.raises(BadArchive, match="same name"):
        unpack(one, into(tmp_path / "out"))
    case = zipped(tmp_path / "b.zip", {"A.jpg": b"1", "a.jpg": b"2"})
    unpack(case, into(tmp_path / "out2"))
    monkeypatch.setattr(archives, "_ignores_case", lambda folder: True)
    with pytest.raises(BadArchive, match=re.escape("'A.jpg'")):
        unpack(case, into(tmp_path / "out3"))
    with pytest.raises(BadArchive, match="'a' is a file and a folder"):
        unpack(zipped(tmp_path / "c.zip", {"a/b": b"1", "a": b"2"}), into(tmp_path / "out4"))


@pytest.mark.parametrize("position", [0, 40, -30])
def test_damage_is_found(position: int, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"name.txt": b"0123456789" * 10})
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(BadArchive, match=r"a\.zip"):
        unpack(path, into(tmp_path / "out"))
    with pytest.raises(BadArchive, match=r"b\.zip"):
        unpacked_size(zipped(tmp_path / "b.zip", {}))


def test_what_is_there_stays_and_another_content_is_refused(tmp_path: Path) -> None:
    source, target = into(tmp_path / "new"), into(tmp_path / "old")
    for folder, name, text in ((source, "images/1", "1"), (source, "list", "ab"), (target, "list", "xy")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    move_into(source, target)
    assert contents(target) == {"images/1": b"1", "list": b"xy"}
    (source / "list").write_text("longer")
    with pytest.raises(JobFailed, match=re.escape(str(target / "list"))):
        move_into(source, target)

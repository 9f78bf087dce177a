"""Finding images, and naming them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.errors import InputError
from glip.images import IMAGE_SUFFIXES, list_images, list_sources

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(*sources: str | Path) -> list[str]:
    listing = list_images(sources)
    assert all(Path(str(file.path)).is_absolute() for file in listing)
    assert len({file.path for file in listing}) == len({file.name for file in listing}) == len(listing)
    return [file.name for file in listing]


def test_a_folder_is_searched_with_all_below_in_natural_order(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "img10.jpg",
        "img2.jpg",
        "IMG1.JPG",
        "b/2/x.png",
        "b/10/x.PNG",
        "a/z.tiff",
        "a/deep/er/y.webp",
        "01.gif",
        "1.gif",
    )
    assert names_of(tmp_path) == [
        *("01.gif", "1.gif", "a/deep/er/y.webp", "a/z.tiff", "b/2/x.png", "b/10/x.PNG"),
        *("IMG1.JPG", "img2.jpg", "img10.jpg"),
    ]
    assert list_images([tmp_path])[0].path == tmp_path / "01.gif"


def test_other_files_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "a.xml", "jpg", "b.jpg.part", ".hidden.jpg", ".cache/c.jpg", "d/.e/f.jpg")
    assert names_of(tmp_path) == ["a.jpg"]
    assert names_of(tmp_path / ".cache") == ["c.jpg"]  # given by name


def test_every_suffix_that_is_looked_for_is_read_by_pillow() -> None:
    Image.init()
    assert set(Image.registered_extensions()) >= IMAGE_SUFFIXES
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= IMAGE_SUFFIXES


def test_files_are_taken_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "image")
    assert names_of(tmp_path / "image", str(tmp_path / "a.jpg")) == ["a.jpg", "image"]


def test_a_single_source_needs_no_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    assert [file.name for file in list_images(str(tmp_path))] == ["a.jpg"]


def test_relative_sources_and_the_home_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert list_images(["photos/../photos/"])[0].path == tmp_path / "photos" / "a.jpg"
    assert names_of(".") == names_of("*") == ["photos/a.jpg"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names_of("~/photos") == ["a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["a1.jpg"]),
        ("a?.*", ["a1.jpg", "a2.png"]),
        ("[ab]*", ["a1.jpg", "a2.png", "b/3.jpg", "b/c/4.jpg"]),  # 'b' is a folder: all in it
        ("*/*.jpg", ["b/3.jpg"]),
        ("**/*.jpg", ["a1.jpg", "b/3.jpg", "b/c/4.jpg"]),
        ("**", ["a1.jpg", "a2.png", "b/3.jpg", "b/c/4.jpg"]),
        ("**/c/**/*.jpg", ["b/c/4.jpg"]),
        ("b/**/4.jpg", ["c/4.jpg"]),  # names begin where the pattern does
        ("**/?h/*.jpg", []),  # hidden
    ],
)
def test_patterns_are_matched(tmp_path: Path, pattern: str, names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a1.jpg", "a2.png", "a3.txt", "b/3.jpg", "b/c/4.jpg", "b/.h/5.jpg", ".a4.jpg")
    assert names_of(tmp_path / "a1.jpg", tmp_path / pattern) == sorted({"a1.jpg", *names})
    assert not caplog.records  # files are not taken for folders that cannot be opened


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].jpg", "a1.jpg")
    assert names_of(tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_a_list_file_names_images_relative_to_itself(tmp_path: Path) -> None:
    touch(tmp_path, "lists/a.jpg", "lists/b/c d.png", "other/e.jpg")
    path = tmp_path / "lists" / "train.TXT"
    path.write_bytes("\ufeff# training\r\n./a.jpg\r\n\r\n  b/c d.png  \r\na.jpg\r\n#b/none.jpg\r\n".encode())
    assert names_of(path) == ["a.jpg", "b/c d.png"]
    path.write_text(f"a.jpg\n../other/e.jpg\n{tmp_path}/lists/b/c d.png\n")
    assert names_of(path) == ["lists/a.jpg", "lists/b/c d.png", "other/e.jpg"]


def test_a_list_file_with_a_missing_image_is_refused_with_the_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\n# more\nb.jpg\n")
    with pytest.raises(InputError, match=r"\b3\b.*list\.txt.*'b\.jpg'"):
        list_images([tmp_path / "list.txt"])


def test_images_in_several_sources_come_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/b/2.jpg", "c/3.jpg")
    (tmp_path / "a" / "list.txt").write_text("1.jpg\nb/2.jpg\n")
    sources = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "c", tmp_path / "a/1.jpg", tmp_path / "a/*"]
    assert names_of(*sources, tmp_path / "a" / "list.txt") == ["1.jpg", "3.jpg", "b/2.jpg"]
    assert names_of(tmp_path / "a/b", tmp_path / "a") == ["1.jpg", "2.jpg"]  # named by the first source


def test_names_that_would_be_the_same_begin_at_the_folder_of_all_sources(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/1.jpg",
        "train/only.jpg",
        "val/1.jpg",
        "x/images/1.jpg",
        "y/images/1.jpg",
        "x/images/train/1.jpg",
    )
    assert names_of(tmp_path / "train", tmp_path / "val") == ["train/1.jpg", "train/only.jpg", "val/1.jpg"]
    assert names_of(tmp_path / "val", tmp_path / "train") == ["train/1.jpg", "train/only.jpg", "val/1.jpg"]
    assert names_of(tmp_path / "x/images", tmp_path / "y/images") == [
        *("x/images/1.jpg", "x/images/train/1.jpg", "y/images/1.jpg"),
    ]
    assert names_of(tmp_path / "train/1.jpg", tmp_path / "val/1.jpg") == ["train/1.jpg", "val/1.jpg"]
    # A name that gets its folder must not meet one that had it before.
    assert names_of(tmp_path / "x/images", tmp_path / "train") == [
        *("train/1.jpg", "train/only.jpg", "x/images/1.jpg", "x/images/train/1.jpg"),
    ]


def test_nothing_found_says_where_and_what_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.md", "sub/.hidden.jpg")
    for source in (tmp_path, tmp_path / "*.jpg", tmp_path / "no-such-folder" / "*.jpg"):
        with pytest.raises(InputError, match=r"\.jpg .*\.webp") as caught:
            list_images([source])
        assert str(source) in str(caught.value)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match=r"list\.txt"):
        list_images([tmp_path / "list.txt"])
    with pytest.raises(InputError, match="empty"):
        list_images([])


@pytest.mark.parametrize(
    "source", ["no-such-folder", "no-such.jpg", "", "a\0b", "~nobody-of-this-name/x", "no-such.txt"]
)
def test_a_missing_source_is_refused_by_its_name(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(repr(source))):
        list_images(["a.jpg", source])


@needs_links
def test_links_that_form_circles_do_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "elsewhere/3.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "a").rename(root / "a")
    (tmp_path / "b").rename(root / "b")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "out2").symlink_to(tmp_path / "elsewhere")
    (root / "itself").symlink_to(root / "itself")
    assert names_of(root) == ["a/1.jpg", "b/2.jpg", "out/3.jpg"]
    assert names_of(root / "**" / "*.jpg") == ["a/1.jpg", "b/2.jpg"]
    assert names_of(root / "*" / "*.jpg") == ["a/1.jpg", "b/2.jpg", "out2/3.jpg", "out/3.jpg"]


@needs_links
def test_links_to_images_are_images_even_where_they_lead_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "root/2.jpg")
    (tmp_path / "root" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (tmp_path / "root" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "root" / "self.jpg").symlink_to(tmp_path / "root" / "self.jpg")
    assert names_of(tmp_path / "root") == ["2.jpg", "link.jpg", "lost.jpg", "self.jpg"]


def test_a_folder_that_cannot_be_opened_is_refused_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a/1.jpg", "locked/2.jpg")
    scandir = os.scandir

    def guarded(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names_of(tmp_path) == ["a/1.jpg"]
    assert "locked" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    with pytest.raises(InputError, match=r"locked.*Permission denied"):
        list_images([tmp_path / "locked"])


def test_names_are_text_even_where_file_names_are_not(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 \xf0\x9f\xa6\x9d\n.jpg"
    try:
        os.close(os.open(path, os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes no such name")
    (file,) = list_images([tmp_path])
    assert file.name == "caf\\xe9 🦝\n.jpg"
    assert json.loads(json.dumps(file.name).encode()) == file.name
    assert os.fsencode(str(file.path)) == path


def test_many_files_are_listed_with_one_call_of_the_system_per_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for number in range(100):
            os.close(os.open(tmp_path / str(folder) / f"{number}.jpg", os.O_CREAT))
    calls: list[str] = []

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return plain(*args, **options)

        return call

    for name in ("scandir", "stat", "lstat"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    listing = list_images([tmp_path])
    monkeypatch.undo()
    assert [file.name for file in listing] == [
        f"{folder}/{number}.jpg" for folder in range(10) for number in range(100)
    ]
    assert calls.count("scandir") == 11
    assert len(calls) < 1000  # no call per file


def test_images_of_formats_that_are_not_read_are_counted_and_named_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "x.DNG", "sub/y.psd", "sub/z.psd", "notes.txt", "clip.mp4", ".hidden.psd")
    listing = list_sources([tmp_path, tmp_path / "sub", str(tmp_path / "**" / "*")])
    assert [image.name for image in listing.images] == ["a.jpg"]
    (entry,) = listing.left_out
    assert (entry.kind, entry.count) == ("unread_formats", 3)
    assert "2 .psd" in entry.sentence and "1 .dng" in entry.sentence and "x.DNG" in str(entry)


def test_a_list_names_what_is_not_read_and_keeps_what_may_be_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "no_suffix", "b.cr2")
    (tmp_path / "list.txt").write_text("a.jpg\nno_suffix\nb.cr2\n")
    listing = list_sources([tmp_path / "list.txt"])
    assert [image.name for image in listing.images] == ["a.jpg", "no_suffix"]
    assert listing.left_out[0].count == 1 and "b.cr2" in str(listing.left_out[0])


def test_a_folder_with_such_images_only_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.dng")
    with pytest.raises(InputError, match=re.escape(".dng")):
        list_images([tmp_path])


def test_numbers_of_any_length_in_names_are_sorted(tmp_path: Path) -> None:
    long = "7" * 5000
    (tmp_path / "list.txt").write_text(f"http://a/{long}.png\nhttp://a/12.png\nhttp://a/{'0' * 5000}3.png\n")
    assert len(list_sources([tmp_path / "list.txt"]).images) == 3
    (tmp_path / "list.txt").write_text(f"{long}.png\n")
    with pytest.raises(InputError, match="Line 1") as error:
        list_images([tmp_path / "list.txt"])
    assert len(str(error.value)) < 600


def test_a_line_with_a_nul_byte_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b.png\n")
    with pytest.raises(InputError, match="Line 1"):
        list_images([tmp_path / "list.txt"])

"""Names in files of other kinds: read where it is plain what is meant, else refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from glip.errors import InputError
from glip.labeling.classes import load_class_file
from glip.names import split_names

COCO = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "hard hat"}, {"id": 3, "name": "dog"}]}
READ = [
    ("data.yaml", "train: ../images\nval: x\nnc: 2\nnames: ['hard hat', dog]\n", ("hard hat", "dog")),
    ("data.yaml", "path: /data\ntrain: images\nnames:\n  1: dog\n  0: hard hat\n", ("hard hat", "dog")),
    ("data.yaml", "names:\n- no\n- 7\n", ("no", "7")),
    ("names.json", '["hard hat", "dog"]', ("hard hat", "dog")),
    ("names.yaml", "- hard hat\n- dog\n", ("hard hat", "dog")),
    ("names.json", '{"1": "dog", "0": "hard hat"}', ("hard hat", "dog")),
    ("coco.json", json.dumps(COCO), ("hard hat", "dog")),
    ("classes.txt", "hard hat\n# not this\ndog\n", ("hard hat", "dog")),
    ("bom.txt", "\ufeffhard hat\ndog\n", ("hard hat", "dog")),
]
REFUSED = [
    ("page.html", "<!DOCTYPE html><html><body>404</body></html>"),
    ("table.csv", "id,name\n1,dog\n"),
    ("deep.json", "[" * 100_000),
    ("bomb.yaml", "names:\n- &a [dog, dog]\n- [*a, *a]\n"),
    ("twice.yaml", "nc: 2\nnames: {0: dog, 0: cat}\n"),
    ("null.yaml", "nc: 2\nnames: [dog, ~]\n"),
    ("point.yaml", 'nc: 1\nnames: ["\\U00110000"]\n'),
]


@pytest.mark.parametrize(("file", "text", "names"), READ)
def test_names_of_other_kinds_of_files_are_read(tmp_path: Path, file: str, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert tuple(split_names(f"@{tmp_path / file}")) == names
    if file != "names.yaml":  # a class file of its own kind
        assert load_class_file(tmp_path / file).names == names


def test_a_name_may_begin_with_a_bracket(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("[red] light\nstar\n")
    assert split_names(f"@{file}") == ["[red] light", "star"]
    file.write_text('["red" light]\n')
    with pytest.raises(InputError, match=re.escape("names.txt")):
        split_names(f"@{file}")


def test_ids_of_a_coco_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    assert load_class_file(tmp_path / "coco.json").ids == (7, 3)


@pytest.mark.parametrize(("file", "text"), REFUSED)
def test_other_files_are_refused_by_name(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    for read in (lambda path: split_names(f"@{path}"), load_class_file):
        with pytest.raises(InputError, match=re.escape(file)):
            read(tmp_path / file)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0", b"\xff\xfeh\0i\0", b"caf\xe9\n", b"d\0og\n"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    for read in (lambda path: split_names(f"@{path}"), load_class_file):
        with pytest.raises(InputError, match=re.escape("x.txt")):
            read(tmp_path / "x.txt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        load_class_file(tmp_path)

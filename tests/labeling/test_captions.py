"""Captions from files and sidecars, brought together with the images of a job."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from glip.errors import InputError
from glip.images import ImageFile
from glip.labeling.captions import Captions, parse_spans, read_captions
from glip.labeling.image_prompts import caption_prompts
from glip.labeling.noun_phrases import phrase_finder
from tests.labeling.fake import FakeDetector

NAMES = ("a.jpg", "b/c.jpg", "b/d.png")
known = phrase_finder(phrases=["dog", "red car", "person"])


def images(folder: Path, names: tuple[str, ...] = NAMES) -> list[ImageFile]:
    return [ImageFile(folder / name, name) for name in names]


def read(folder: Path, content: str | bytes, name: str = "captions.csv") -> Captions:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_captions(path, images(folder))


def text(captions: Captions) -> dict[str, str]:
    return {name: caption.text for name, caption in captions.of.items()}


# --- csv -------------------------------------------------------------------------------------------------------------


def test_a_csv_gives_every_image_its_caption(tmp_path: Path) -> None:
    captions = read(tmp_path, "file_name,caption\na.jpg,a dog\nb/c.jpg,a red car\nb/d.png,nothing\n")
    assert text(captions) == {"a.jpg": "a dog", "b/c.jpg": "a red car", "b/d.png": "nothing"}
    assert captions.missing == {}
    assert captions.unknown == ()


def test_a_csv_as_a_spreadsheet_writes_it_is_read(tmp_path: Path) -> None:
    content = (
        b'\xef\xbb\xbf"Caption";file_name ;note\r\n'
        b'"a dog, ""the"" dog;\r\nbehind a car";a.jpg;x\r\n'
        b"\r\n"
        b";;\r\n"
        b"caf\xc3\xa9 dog;b\\c.jpg;\r\n"
        b"last;./b/d.png;"
    )
    assert text(read(tmp_path, content)) == {
        "a.jpg": 'a dog, "the" dog;\nbehind a car',
        "b/c.jpg": "café dog",
        "b/d.png": "last",
    }


def test_tabs_separate_too(tmp_path: Path) -> None:
    assert text(read(tmp_path, "file_name\tcaption\na.jpg\ta dog, a car; a hat\n")) == {"a.jpg": "a dog, a car; a hat"}


def test_accents_in_two_characters_name_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("file_name,caption\ncafe\u0301.jpg,a dog\n", encoding="utf-8")
    captions = read_captions(tmp_path / "captions.csv", images(tmp_path, ("caf\u00e9.jpg",)))
    assert text(captions) == {"caf\u00e9.jpg": "a dog"}


def test_phrases_and_ranges_of_a_csv_are_taken(tmp_path: Path) -> None:
    content = (
        "file_name,caption,phrases,spans\n"
        'a.jpg,"a dog, a red car","red car; DOG ;",\n'
        'b/c.jpg,a dog and a dog,,"[[[0,5]],[[10,15],[2,5]]]"\n'
        'b/d.png,a dog,thing,"[[[2,5]]]"\n'
    )
    captions = read(tmp_path, content)
    assert captions.of["a.jpg"].spans == (((9, 16),), ((2, 5),))
    assert captions.of["a.jpg"].phrases == ("red car", "DOG")
    assert captions.of["b/c.jpg"].spans == (((0, 5),), ((10, 15), (2, 5)))
    prompts = caption_prompts(captions, FakeDetector(), known).by_image
    phrases = {name: own.phrases for name, (own,) in prompts.items()}
    assert phrases == {"a.jpg": ("red car", "DOG"), "b/c.jpg": ("a dog", "a dog / dog"), "b/d.png": ("thing",)}


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("file_name,text\na.jpg,a dog\n", 1, "'caption'.*file_name, text"),
        ("file_name,caption,caption\n", 1, "'caption'"),
        ("a.jpg,a dog\n", 1, "'file_name'"),
        ("file_name,caption\na.jpg,a dog, a cat\n", 2, "3 .*2 "),
        ('file_name,caption\na.jpg,"a\ndog"\nb/c.jpg\n', 4, "1 .*2 "),
        ('file_name,caption\na.jpg,a dog\n"b/c.jpg,a dog\n', 3, "CSV"),
        ('file_name,caption\na.jpg,"a" dog\n', 2, "CSV"),
        ("file_name,caption\n,a dog\n", 2, "file name"),
        ("file_name,caption,phrases\na.jpg,a cart,car\n", 2, "('car'.*'a cart'|'a cart'.*'car')"),
        ('file_name,caption,spans\na.jpg,a dog,"[[0,5]]"\n', 2, r"\[\[0,5\]\]"),
        ('file_name,caption,spans\na.jpg,a dog,"[[[2,9]]]"\n', 2, r"\(2, 9\)"),
        ('file_name,caption,phrases,spans\na.jpg,a dog,dog;car,"[[[2,5]]]"\n', 2, "2 .*1"),
        ("file_name,caption\na.jpg,a dog\nb/c.jpg,x\na.jpg,a car\n", 4, r"'a\.jpg'.*csv, line 2"),
        (b"file_name,caption\na.jpg,a dog\nb/c.jpg,caf\xe9\n", 3, "UTF-8"),
        ("file_name,caption\n".encode("utf-16"), 1, "UTF-8"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)captions\.csv, line {line}: .*{message}"):
        read(tmp_path, content)


def test_a_row_that_stands_twice_counts_once(tmp_path: Path) -> None:
    assert text(read(tmp_path, "file_name,caption\na.jpg,a dog\na.jpg,a dog\n")) == {"a.jpg": "a dog"}


# --- jsonl -----------------------------------------------------------------------------------------------------------


def test_a_jsonl_gives_captions_with_phrases_or_ranges(tmp_path: Path) -> None:
    lines = [
        {"file_name": "a.jpg", "caption": "a dog\u2028here\nand\x85there", "score": 1},
        {"file_name": "b/c.jpg", "caption": "a dog", "spans": [[[2, 5]]]},
        {"file_name": "b/d.png", "caption": "a red car", "phrases": ["Red car"]},
    ]
    content = b"\xef\xbb\xbf" + "\r\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    captions = read(tmp_path, content, "captions.JSONL")
    assert text(captions)["a.jpg"] == "a dog\u2028here\nand\x85there"
    assert captions.of["b/c.jpg"].spans == (((2, 5),),)
    assert (captions.of["b/d.png"].phrases, captions.of["b/d.png"].spans) == (("Red car",), (((2, 9),),))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", ""),
        ('{"file_name": "b/c.jpg"}', "'caption'"),
        ('{"file_name": "b/c.jpg", "caption": 3}', r"\$\.caption"),
        ('{"file_name": "b/c.jpg", "caption": "a dog", "spans": [[0, 5]]}', "spans"),
        ('{"file_name": "b/c.jpg", "caption": "a dog", "spans": [[]]}', "span"),
        ('{"file_name": "b/c.jpg", "caption": "a cart", "phrases": ["car"]}', "'car'"),
    ],
)
def test_a_jsonl_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, second: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"captions\.jsonl, line 2\b.*{message}"):
        read(tmp_path, '{"file_name": "a.jpg", "caption": "a dog"}\n' + second, "captions.jsonl")


# --- sidecars --------------------------------------------------------------------------------------------------------


def test_a_text_file_beside_an_image_is_its_caption(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf a dog\r\nand a car\r\n")
    (tmp_path / "b/c.txt").write_bytes(b"caf\xe9")
    with caplog.at_level(logging.WARNING):
        captions = read_captions("sidecar", images(tmp_path))
    assert text(captions) == {"a.jpg": "a dog\nand a car"}
    assert "UTF-8" in captions.missing["b/c.jpg"]
    assert "d.txt" in captions.missing["b/d.png"]
    assert [record.args for record in caplog.records] == [(2, "b/c.jpg")]


def test_no_sidecar_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt"):
        read_captions("sidecar", images(tmp_path))


# --- images and rows -----------------------------------------------------------------------------------------------


def test_rows_without_an_image_and_images_without_a_row_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        captions = read(tmp_path, "file_name,caption\nx.jpg,a\na.jpg,a dog\ny.jpg,a\n")
    assert captions.unknown == ("x.jpg", "y.jpg")
    assert captions.missing == dict.fromkeys(
        ("b/c.jpg", "b/d.png"), f"there is no caption for it in {tmp_path / 'captions.csv'}"
    )
    assert "2 rows of" in caplog.text
    assert "(first: 'x.jpg')" in caplog.text
    assert "2 images have no caption" in caplog.text
    assert "(first: 'b/c.jpg')" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,caption\nphotos/a.jpg,a dog\n", r"'photos/a\.jpg'.*'a\.jpg'"),
        ("file_name,caption\n", r"captions\.csv"),
        ("", r"captions\.csv"),
    ],
)
def test_a_file_without_a_caption_for_any_image_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'captions\.json'.*\.csv.*\.jsonl.*'sidecar'"):
        read_captions("captions.json", images(tmp_path))
    with pytest.raises(InputError, match=r"none\.csv"):
        read_captions(tmp_path / "none.csv", images(tmp_path))


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_phrases_are_the_very_characters_of_the_caption(tmp_path: Path) -> None:
    captions = read(tmp_path, "file_name,caption\na.jpg,A  Red car. A Dog; a dog\n")
    (prompt,) = caption_prompts(captions, FakeDetector(), known).by_image["a.jpg"]
    assert prompt.caption == "A  Red car. A Dog; a dog"
    assert prompt.phrases == ("Red car", "Dog", "dog")
    assert prompt.spans == (((3, 10),), ((14, 17),), ((21, 24),))


def test_images_without_a_prompt_are_skipped_with_the_reason(tmp_path: Path) -> None:
    long = "dog " * 257
    content = f"file_name,caption\na.jpg,nothing here\nb/c.jpg,{long}\n"
    with pytest.raises(InputError, match="3 images"):
        caption_prompts(read(tmp_path, content), FakeDetector(), known)
    prompts = caption_prompts(read(tmp_path, content.replace(long, "a dog")), FakeDetector(), known)
    assert list(prompts.by_image) == ["b/c.jpg"]
    assert "'nothing here'" in prompts.skipped["a.jpg"]
    assert "captions.csv" in prompts.skipped["b/d.png"]
    one_good = content.replace("nothing here", "a dog")
    assert "257" in caption_prompts(read(tmp_path, one_good), FakeDetector(), known).skipped["b/c.jpg"]


def test_a_caption_that_fills_the_text_encoder_is_asked_whole(tmp_path: Path) -> None:
    fits = "dog " * 256
    prompts = caption_prompts(read(tmp_path, f"file_name,caption\na.jpg,{fits}\n"), FakeDetector(), known)
    assert len(prompts.by_image["a.jpg"][0].phrases) == 256


def test_an_empty_caption_is_noted_and_the_others_are_asked(tmp_path: Path) -> None:
    prompts = caption_prompts(read(tmp_path, "file_name,caption\na.jpg,\nb/c.jpg,a dog\n"), FakeDetector(), known)
    assert "''" in prompts.skipped["a.jpg"]
    assert [prompt.phrases for prompt in prompts.by_image["b/c.jpg"]] == [("dog",)]


def test_noun_phrases_are_found_in_captions_that_come_without(tmp_path: Path) -> None:
    pytest.importorskip("textblob")
    captions = read(tmp_path, "file_name,caption\na.jpg,A tabby cat and a remote lie on two pink couches.\n")
    (prompt,) = caption_prompts(captions, FakeDetector(), phrase_finder("textblob")).by_image["a.jpg"]
    assert prompt.phrases == ("A tabby cat", "a remote", "two pink couches")


# --- ranges as typed -------------------------------------------------------------------------------------------------


def test_ranges_are_taken_as_they_are_typed_elsewhere() -> None:
    assert parse_spans("[[[0,7]], [[12,17],[20,25]]]") == (((0, 7),), ((12, 17), (20, 25)))


@pytest.mark.parametrize("typed", ["", "[[0,7]]", "[[[0,7,8]]]", "[[[0,7.5]]]", '[[["0",7]]]', "-1", "[[[0,7]]"])
def test_ranges_in_another_form_are_refused(typed: str) -> None:
    with pytest.raises(InputError, match=r"\[\[\[0,7\]\]"):
        parse_spans(typed)

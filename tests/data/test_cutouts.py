"""Named things cut out of their background."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from glip.data.cutouts import clean_cutout_name, load_cutouts, posed
from glip.errors import InputError
from tests.data.photo_sets import write_cutouts


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A frog.", "frog"),
        ("An albino peahen (a female peafowl, or peacock).", "albino peahen"),
        ("A ripe, red tomato!", "ripe red tomato"),
        ("A “Fuji” apple.", "fuji apple"),
        ("A spiny lobster, from the Hawaiian islands.", "spiny lobster"),
        ("A pair of binoculars.", "binoculars"),
        ("Two wild boars.", "wild boars"),
        ("Grandma’s old rag doll.", ""),
        ("A candy cane is a traditional Christmas treat in the United States.", ""),
        ("“Yield” means you have to let other people go first.", ""),
        ("Remember to flush the toilet!", ""),
        ("...", ""),
    ],
)
def test_a_name_is_found_in_a_description_or_nothing(text: str, name: str) -> None:
    assert clean_cutout_name(text) == name


def test_a_folder_gives_things_with_names_and_files(tmp_path: Path) -> None:
    rows = [("animals/birds", "A crow."), ("household", "This is a sentence."), ("town/roadsigns", "A traffic cone.")]
    folder = write_cutouts(tmp_path / "cutouts", rows)
    assert [(cutout.name, cutout.group) for cutout in load_cutouts(folder)] == [("crow", "animals/birds")]


def test_a_bad_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names\.tsv cannot be read"):
        load_cutouts(tmp_path)
    (tmp_path / "names.tsv").write_text("file\tname\na.png\tA frog.\n")
    with pytest.raises(InputError, match="needs the columns file, group and name"):
        load_cutouts(tmp_path)
    (tmp_path / "names.tsv").write_text("file\tgroup\tname\na.png\tanimals\tA frog.\n")
    with pytest.raises(InputError, match=r"No line of .* a file"):
        load_cutouts(tmp_path)


def test_a_pose_is_cropped_to_what_is_opaque(tmp_path: Path) -> None:
    (cutout,) = load_cutouts(write_cutouts(tmp_path / "cutouts"))
    for seed in range(20):
        sprite = posed(cutout, 40, random.Random(seed))
        assert max(sprite.size) == 40
        opaque = sprite.getchannel("A").point([255 * (value > 100) for value in range(256)]).getbbox()
        assert opaque is not None
        assert max(abs(one - two) for one, two in zip(opaque, (0, 0, *sprite.size), strict=True)) <= 2


def test_what_cannot_be_pasted_is_named(tmp_path: Path) -> None:
    folder = write_cutouts(tmp_path / "cutouts", [("a", "A frog."), ("a", "A toad.")])
    Image.new("RGBA", (9, 9)).save(folder / "0.png")
    (folder / "1.png").write_bytes(b"no picture")
    empty, broken = load_cutouts(folder)
    with pytest.raises(InputError, match=r"0\.png is transparent everywhere"):
        posed(empty, 20, random.Random(1))
    with pytest.raises(InputError, match=r"1\.png cannot be read"):
        posed(broken, 20, random.Random(1))

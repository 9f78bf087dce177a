"""VOC files become columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.voc import read_voc
from glip.errors import InputError


def image(name: str, difficult: int) -> str:
    return f"""<annotation><filename>7.jpg</filename><size><width>20</width><height>10</height></size>
    <object><name>{name}</name><difficult>{difficult}</difficult>
    <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object></annotation>"""


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/7.xml").write_text(image("dog", 1))
    (tmp_path / "val.txt").write_text("7  1\n\n")
    return tmp_path / "val.txt"


def test_files_become_columns_with_continuous_boxes(listing: Path) -> None:
    truth = read_voc(listing, listing.parent / "Annotations")
    assert (truth.file_names, truth.image_ids.tolist(), truth.sizes_hw.tolist()) == (("7.jpg",), [1], [[10, 20]])
    assert truth.bbox.tolist() == [[0, 2, 10, 8]]
    assert truth.ignore.tolist() == [True]
    assert (len(truth.names), truth.names[truth.category_indices(truth.category_id)[0]]) == (20, "dog")


def test_other_classes_than_vocs_are_those_of_the_files(listing: Path) -> None:
    folder = listing.parent / "Annotations"
    (folder / "7.xml").write_text(image("zebra", 0))
    assert read_voc(listing, folder).names == ("zebra",)


@pytest.mark.parametrize(
    "content",
    [None, "<a>", "<a/>"],
)
def test_an_image_without_a_usable_file_is_named(listing: Path, content: str | None) -> None:
    path = listing.parent / "Annotations/7.xml"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"7\.xml"):
        read_voc(listing, listing.parent / "Annotations")

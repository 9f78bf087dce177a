"""LVIS files become columns, with the classes that were checked in each image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from glip.data.lvis import read_lvis
from glip.errors import InputError
from tests.evaluation.cases import as_lvis, random_lvis_case


def write(path: Path, content: Any) -> Path:
    path.write_bytes(msgspec.json.encode(content))
    return path


def test_classes_that_were_checked_are_read(tmp_path: Path) -> None:
    expected = random_lvis_case(3).truth
    truth = read_lvis(write(tmp_path / "lvis.json", as_lvis(expected)))
    assert truth.federated == expected.federated
    assert truth.file_names == tuple(f"val2017/{name}" for name in expected.file_names)
    for column in ("image_ids", "category_ids", "annotation_id", "bbox", "area", "ignore", "iscrowd"):
        assert np.array_equal(getattr(truth, column), getattr(expected, column)), column


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 1, "width": 5, "height": 5}]}, "neg_category_ids"),
        ({"categories": [{"id": 1, "name": "x", "frequency": "q"}]}, "'q'"),
        ({"images": []}, "image"),
    ],
)
def test_a_file_that_is_not_lvis_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "lvis.json", as_lvis(random_lvis_case(3).truth) | change)
    with pytest.raises(InputError, match=message):
        read_lvis(path)


def test_a_cut_off_lvis_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lvis.json"
    path.write_bytes(b'{"images": [')
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_lvis(path)

"""From labelled images and records to a class file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.errors import InputError
from glip.evaluation.calibrate import Calibration, calibrate, interval_text, write_class_file
from glip.evaluation.threshold_selection import Interval
from glip.labeling.classes import load_class_file
from tests.evaluation.few import BOX, RECORDS, truth, wordings
from tests.labeling.runs import a_record, write_run


def found(tmp_path: Path, labelled: Path | None = None, **options: Any) -> Calibration:
    folder = tmp_path / "labels"
    if not folder.exists():
        write_run(folder, RECORDS)
    return calibrate(labelled or truth(tmp_path / "few.json"), folder, resamples=50, **options)


def test_a_threshold_separates_the_right_boxes_from_the_wrong_ones(tmp_path: Path) -> None:
    person, dog = found(tmp_path).thresholds
    assert person.threshold and 0.35 < person.threshold.value <= 0.7 and person.f1 and person.f1.value == 1
    assert dog.threshold and dog.threshold.value <= 0.25 and (dog.boxes, dog.images) == (2, 2)
    assert person.f1.low == person.f1.high == 1


def test_label_reads_the_class_file(tmp_path: Path) -> None:
    calibration = found(tmp_path)
    write_class_file(tmp_path / "classes.yaml", calibration)
    read = load_class_file(tmp_path / "classes.yaml")
    assert read.names == ("person", "dog", "traffic light")
    assert read.conf == calibration.classes.conf and read.conf[2] is None
    assert "no threshold: not annotated in the labelled images" in (tmp_path / "classes.yaml").read_text()
    with pytest.raises(InputError, match=r"classes\.yaml"):
        write_class_file(tmp_path / "classes.yaml", calibration)
    write_class_file(tmp_path / "classes.yaml", calibration, overwrite=True)


def test_a_wanted_precision_that_no_threshold_reaches_is_reported(tmp_path: Path) -> None:
    records = [a_record(name, [BOX, (300, 300, 400, 400)], [0.5, 0.5], [0, 0]) for name in ("a.jpg", "b.jpg")]
    write_run(tmp_path / "labels", records)
    person, dog = found(tmp_path, precision=0.9).thresholds
    assert person.threshold is None and "0.9" in person.why
    assert dog.threshold is None and dog.why
    assert found(tmp_path, precision=0.5).thresholds[0].threshold is not None


def test_the_best_wording_of_a_class_is_kept_and_all_are_reported(tmp_path: Path) -> None:
    calibration = found(tmp_path, wordings(tmp_path))
    assert [(row.wording, row.ap > 0.5) for row in calibration.wordings] == [
        ("hole in the road", True),
        ("pothole", False),
    ]
    write_class_file(tmp_path / "classes.yaml", calibration)
    read = load_class_file(tmp_path / "classes.yaml")
    assert (read.names, read.phrases, read.ids) == (("pothole",), ("hole in the road", "manhole"), (7,))
    assert read.negative_of == ((), (0,))
    text = (tmp_path / "classes.yaml").read_text()
    assert '# AP 100.0, AP50 100.0: "hole in the road"' in text
    (row,) = calibration.thresholds
    assert row.precision and row.precision.value == 1


def test_all_wordings_are_kept_on_request(tmp_path: Path) -> None:
    calibration = found(tmp_path, wordings(tmp_path), all_wordings=True)
    write_class_file(tmp_path / "classes.yaml", calibration)
    assert load_class_file(tmp_path / "classes.yaml").phrases == ("pothole", "hole in the road", "manhole")


def test_images_in_another_folder_are_found_by_the_last_part_of_their_name(tmp_path: Path) -> None:
    calibration = found(tmp_path, truth(tmp_path / "few.json", images=("some/a.jpg", "some/unknown.jpg")))
    assert (calibration.images, calibration.unknown) == (1, 1)
    entries = {entry.kind: entry for entry in calibration.left_out}
    assert entries["images_without_record"].examples == ("some/unknown.jpg",)
    with pytest.raises(InputError, match=r"1 images.*'x\.jpg'.*'a\.jpg'"):
        found(tmp_path, truth(tmp_path / "few.json", images=("x.jpg",)))


def test_class_names_are_compared_as_the_model_reads_them(tmp_path: Path) -> None:
    calibration = found(tmp_path, truth(tmp_path / "few.json", names=("Person", "dog_")))
    person, dog = calibration.thresholds
    assert (person.name, dog.name) == ("person", "dog")
    assert person.threshold and person.f1 and person.f1.value == 1
    assert calibration.classes.conf[0] == person.threshold.value


def test_no_class_in_common_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'zebra'.*'person', 'dog', 'traffic light'"):
        found(tmp_path, truth(tmp_path / "few.json", names=("zebra",)))


def test_captions_have_no_classes_to_calibrate(tmp_path: Path) -> None:
    write_run(tmp_path / "labels", [], names=(), by_caption=True)
    with pytest.raises(InputError, match=str(tmp_path / "labels")):
        found(tmp_path)


def test_an_interval_is_shown_where_there_is_one() -> None:
    assert interval_text(Interval(0.5, 0.25, 0.751)) == "0.50 (0.25 to 0.75)"
    assert interval_text(Interval(0.5, 0.25, 0.751), percent=True) == "50.0 (25.0 to 75.1)"
    assert (interval_text(Interval(0.5, None, None)), interval_text(None)) == ("0.50", "—")

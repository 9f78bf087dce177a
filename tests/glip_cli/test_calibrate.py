"""`glip calibrate`: what it prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from glip.errors import InputError
from glip.labeling.classes import load_class_file
from glip_cli.calibrate import calibrate
from tests.evaluation.few import RECORDS, truth, wordings
from tests.labeling.runs import write_run

app = typer.Typer()
app.command()(calibrate)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    app([*(str(word) for word in words), "--resamples", "20"], standalone_mode=False)
    return capsys.readouterr().out


def test_thresholds_are_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "labels", RECORDS)
    few = truth(tmp_path / "few.json")
    out = run(capsys, few, "--records", tmp_path / "labels", "--out", tmp_path / "classes.yaml")
    header, person, dog = out.splitlines()[1:4]
    assert header.split() == ["class", "boxes", "threshold", "precision", "recall", "F1"]
    assert person.split()[:2] == ["person", "2"] and dog.split()[:2] == ["dog", "2"]
    assert "1.00 (1.00 to 1.00)" in person
    assert out.splitlines()[-1] == str(tmp_path / "classes.yaml")
    assert load_class_file(tmp_path / "classes.yaml").names == ("person", "dog", "traffic light")
    with pytest.raises(InputError, match=r"classes\.yaml"):
        run(capsys, few, "--records", tmp_path / "labels", "--out", tmp_path / "classes.yaml")


def test_json_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = wordings(tmp_path)
    out = run(capsys, few, "-r", tmp_path / "labels", "-o", tmp_path / "new.yaml", "--target-precision", ".9", "--json")
    content = json.loads(out)
    assert content["file"] == str(tmp_path / "new.yaml")
    assert content["thresholds"][0]["precision"]["value"] >= 0.9
    assert [row["wording"] for row in content["wordings"]] == ["hole in the road", "pothole"]


def test_wordings_are_compared_and_all_kept_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = wordings(tmp_path)
    out = run(capsys, few, "-r", tmp_path / "labels", "-o", tmp_path / "c.yaml", "--all-wordings")
    assert "hole in the road" in out and "% of samples" in out
    assert len(load_class_file(tmp_path / "c.yaml").phrases) == 3
    run(capsys, few, "-r", tmp_path / "labels", "-o", tmp_path / "c.yaml", "--overwrite")
    assert len(load_class_file(tmp_path / "c.yaml").phrases) == 2

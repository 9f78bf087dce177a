"""report.html of an evaluation: what it shows, and what it leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from glip.evaluation import page
from glip.evaluation.page import write_page
from glip.evaluation.results import ClassRow, EvaluationResult, ScoreRow, SetResult

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def result(tmp_path: Path) -> EvaluationResult:
    folder = tmp_path / "my set"
    (folder / "worst").mkdir(parents=True)
    for name in ("precision_recall.png", "confusion.png", "worst/001-a.png", "worst/002-b.png"):
        Image.new("RGB", (60, 40), "red").save(folder / name)
    classes = (ClassRow(1, "dog", 4, 60.0, 80.0, 70.0, 65.0), ClassRow(2, EVIL, 1234, 20.0, 30.0, 25.0, 40.0))
    found = SetResult(
        name="my set",
        split="val",
        format="coco",
        images=7,
        numbers={"AP": 40.0},
        classes=classes,
        annotated=5,
        found=6,
        notes=(f"note {EVIL}",),
    )
    return EvaluationResult(
        "mine",
        "nano",
        {"precision": "fp32"},
        (ScoreRow("my set", "AP", 40.0),),
        (found,),
        files=(folder / "precision_recall.png", folder / "confusion.png", folder / "worst"),
    )


def text_of(result: EvaluationResult, out: Path) -> str:
    return write_page(out, result).read_text(encoding="utf-8")


def test_the_page_has_scores_classes_charts_and_images(result: EvaluationResult, tmp_path: Path) -> None:
    text = text_of(result, tmp_path)
    assert re.findall(r"<b>(.*?)</b><span>(.*?)</span>", text) == [("40.0", "AP")]
    assert text.count("data:image/png") == 2 and text.count("data:image/jpeg") == 2
    rows = re.findall(r"<tr><td>(.*?)</td>", text)
    assert rows == ["AP", EVIL.replace("<", "&lt;").replace(">", "&gt;"), "dog"]  # the lowest AP first
    assert "1,234" in text
    assert "average precision" in text
    assert "fp32" in text
    assert "<script" not in text


def test_without_published_scores_there_is_no_column_for_them(result: EvaluationResult, tmp_path: Path) -> None:
    assert ">published<" not in text_of(result, tmp_path)


def test_images_stay_within_their_bytes_and_the_rest_is_counted(
    result: EvaluationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts = sum((tmp_path / "my set" / name).stat().st_size for name in ("precision_recall.png", "confusion.png"))
    monkeypatch.setattr(page, "MAX_IMAGE_BYTES", charts + 900)
    text = text_of(result, tmp_path)
    assert text.count("data:image/jpeg") == 1
    assert "1 more" in text

"""report.html of a run: its numbers and images, and names that become no markup."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from glip.training.finetune_job import FinetuneResult
from glip.training.run_page import write_run_page

EVIL = "<script>alert(1)</script>"


def test_the_page_has_scores_images_and_classes(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "curve.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "comparison.jpg")
    result = FinetuneResult(
        set="Fruit",
        mode="linear",
        shots=3,
        seed=30,
        model="nano",
        base="b",
        test_split="test",
        test={"AP": 40.0, "AP50": 61.25},
        per_class={"pear": 70.0, EVIL: 10.0, "kiwi": None},
        best_epoch=4,
        epochs=5,
        notes=(f"note {EVIL}",),
        files=("adapter.safetensors", "curve.png", "comparison.jpg"),
    )
    text = write_run_page(tmp_path, result).read_text(encoding="utf-8")
    assert "<h1>Fruit, linear, 3-shot, seed 30</h1>" in text
    tiles = re.findall(r"<b>(.*?)</b><span>(.*?)</span>", text)
    assert tiles == [("40.0", "AP on test"), ("61.2", "AP50 on test"), ("4", "best epoch of 5")]
    assert (text.count("data:image/png"), text.count("data:image/jpeg")) == (1, 1)
    rows = re.findall(r'<tr><td>(.*?)</td><td class="number">(.*?)</td>', text)
    assert [value for _, value in rows] == ["10.0", "70.0", "—"]
    assert "<script" not in text


def test_images_that_were_not_drawn_are_not_on_the_page(tmp_path: Path) -> None:
    result = FinetuneResult("Fruit", "full", "all", 3, "nano", "b", "test", {"AP": None}, {})
    assert "<img" not in write_run_page(tmp_path, result).read_text(encoding="utf-8")

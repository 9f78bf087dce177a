"""COCO-O's two numbers."""

from __future__ import annotations

import pytest

from glip.evaluation.robustness import DOMAINS, Robustness, missing_domains


def test_effective_robustness_is_what_lies_above_the_fitted_line() -> None:
    scores = Robustness(dict.fromkeys(DOMAINS, 0.3), coco=0.4)
    assert scores.average == pytest.approx(0.3)
    assert scores.effective == pytest.approx(0.3 - 0.18)


def test_the_average_counts_domains_not_pictures() -> None:
    assert Robustness({"sketch": 0.1, "tattoo": 0.5}).average == pytest.approx(0.3)


def test_without_coco_there_is_no_effective_robustness() -> None:
    assert Robustness({"sketch": 0.1}).effective is None


def test_missing_domains_are_named() -> None:
    assert missing_domains(["weather", "cartoon", "sketch", "handmake"]) == ("painting", "tattoo")

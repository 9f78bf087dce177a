"""LVIS's two protocols against a plain reading of their rules, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glip.data.annotations import Federated, Truth
from glip.errors import InputError
from glip.evaluation.metrics import lvis
from glip.evaluation.metrics.lvis import best_of_each, lvis_scores
from tests.evaluation.cases import random_lvis_case, simple_predictions, simple_truth
from tests.evaluation.reference import plain_lvis_numbers

BOX = (0.0, 0.0, 10.0, 10.0)
ELSEWHERE = (50.0, 50.0, 10.0, 10.0)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_all_numbers_equal_a_plain_reading_of_the_rules(
    seed: int, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvis, "PER_IMAGE", 7)
    monkeypatch.setattr(lvis, "PER_CLASS", 9)
    case = random_lvis_case(seed)
    expected = plain_lvis_numbers(case, per_image=None if fixed else 7, per_class=9 if fixed else None)
    found = lvis_scores(case.truth, case.predictions, fixed=fixed).numbers()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.fixture
def truth() -> Truth:
    """A box of class 1 in each of two images; in the first, class 2 is absent and class 3 was not checked."""
    truth = simple_truth([(1, 1, BOX), (2, 1, BOX), (2, 2, BOX), (2, 3, BOX)], classes=3, images=2)
    none: frozenset[int] = frozenset()
    federated = Federated(("r", "c", "f"), {1: frozenset({2}), 2: none}, {1: none, 2: none})
    return replace(truth, federated=federated)


def test_a_class_that_was_not_checked_is_never_wrong(truth: Truth) -> None:
    right = [(image, category, BOX, 0.5) for image, category in ((1, 1), (2, 1), (2, 2), (2, 3))]
    assert lvis_scores(truth, simple_predictions(right), fixed=True).numbers()["AP"] == pytest.approx(1)
    unknown = lvis_scores(truth, simple_predictions([*right, (1, 3, BOX, 0.9)]), fixed=True).numbers()
    assert unknown["APf"] == pytest.approx(1)
    absent = lvis_scores(truth, simple_predictions([*right, (1, 2, BOX, 0.9)]), fixed=True).numbers()
    assert absent["APc"] == pytest.approx(0.5)


def test_further_boxes_of_a_class_that_was_not_annotated_exhaustively_are_ignored(truth: Truth) -> None:
    found = simple_predictions([(2, 2, ELSEWHERE, 0.9), (2, 2, BOX, 0.5)])
    assert lvis_scores(truth, found, fixed=False).numbers()["APc"] == pytest.approx(0.5)
    assert truth.federated is not None
    open_ended = replace(truth.federated, not_exhaustive={1: frozenset(), 2: frozenset({2})})
    assert lvis_scores(replace(truth, federated=open_ended), found, fixed=False).numbers()["APc"] == pytest.approx(1)


def test_the_standard_protocol_limits_boxes_by_image_and_the_fixed_one_by_class(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvis, "PER_IMAGE", 2)
    monkeypatch.setattr(lvis, "PER_CLASS", 2)
    found = simple_predictions([(1, 1, BOX, 0.9), (2, 1, BOX, 0.8), (2, 2, BOX, 0.7), (2, 3, BOX, 0.6)])
    standard, fixed = (lvis_scores(truth, found, fixed=fixed) for fixed in (False, True))
    assert [standard.numbers()[name] for name in ("APr", "APc", "APf")] == pytest.approx([1, 1, 0])
    assert [fixed.numbers()[name] for name in ("APr", "APc", "APf")] == pytest.approx([1, 1, 1])
    assert "AR2" in standard.numbers()


def test_the_best_of_each_group_keep_their_order_and_ties_go_to_the_first() -> None:
    group, score = np.array([1, 0, 1, 1, 0]), np.array([0.2, 0.1, 0.5, 0.2, 0.9])
    assert best_of_each(group, score, 2).tolist() == [0, 1, 2, 4]
    assert best_of_each(group, score, 1).tolist() == [2, 4]


def test_a_truth_without_lists_of_checked_classes_is_refused() -> None:
    with pytest.raises(InputError, match="neg_category_ids"):
        lvis_scores(simple_truth([]), simple_predictions([]), fixed=True)

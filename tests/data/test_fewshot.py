"""The benchmark's rule for few examples."""

from __future__ import annotations

import random

import pytest

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.data.fewshot import draw_few_shot


def dataset(*classes: tuple[int, ...], side: float = 10.0) -> CocoDataset:
    """Images 10, 20, …, each with a box of every class listed for it."""
    pairs = [(10 * (place + 1), found) for place, group in enumerate(classes) for found in group]
    return CocoDataset(
        images=tuple(CocoImage(10 * (place + 1), f"{place}.jpg", 50, 50) for place in range(len(classes))),
        annotations=tuple(
            CocoAnnotation(number, image, category, (0.0, 0.0, side, side))
            for number, (image, category) in enumerate(pairs, start=1)
        ),
        categories=(CocoCategory(1, "cat"), CocoCategory(2, "dog")),
    )


def ids(few: CocoDataset) -> list[int]:
    return [image.id for image in few.images]


def shuffled(count: int, seed: int) -> list[int]:
    order = [10 * (place + 1) for place in range(count)]
    random.Random(seed).shuffle(order)
    return order


@pytest.mark.parametrize("seed", [3, 30, 300])
def test_images_are_taken_in_the_shuffled_order_of_their_ids(seed: int) -> None:
    few = draw_few_shot(dataset(*[(1, 2)] * 9), 3, seed)
    assert sorted(ids(few.dataset)) == sorted(shuffled(9, seed)[:3])
    assert ids(few.dataset) == sorted(ids(few.dataset))
    assert few.missing == {}


def test_an_image_with_any_wanted_class_is_taken_and_counts_for_all_of_its_classes() -> None:
    data = dataset((1,), (1, 2), (1,), (2,), (1,), (1, 2), (2,), (1,))
    for seed in range(20):
        wanted, taken = {1: 2, 2: 2}, []
        classes = {image: {box.category_id for box in boxes} for image, boxes in data.boxes_by_image().items()}
        for image in shuffled(8, seed):
            if any(wanted[found] > 0 for found in classes[image]):
                taken.append(image)
                for found in classes[image]:
                    wanted[found] -= 1
        assert ids(draw_few_shot(data, 2, seed).dataset) == sorted(taken)


def test_all_boxes_of_a_taken_image_come_along_and_the_classes_stay() -> None:
    data = dataset((1, 1, 2), (2,), ())
    few = draw_few_shot(data, 5, 3).dataset
    assert few.categories == data.categories
    assert few.annotations == data.annotations
    assert ids(few) == [10, 20]


def test_several_boxes_of_a_class_in_one_image_are_one_shot() -> None:
    assert len(draw_few_shot(dataset((1, 1, 1), (1, 1, 1), (2,), (2,)), 2, 3).dataset.images) == 4


def test_images_without_a_box_worth_the_name_are_never_taken() -> None:
    few = draw_few_shot(dataset((1,), (2,), side=1.0), 1, 3)
    assert ids(few.dataset) == []
    assert few.missing == {1: 1, 2: 1}


def test_what_is_missing_is_said() -> None:
    assert draw_few_shot(dataset((1,), (1,), (1,), (2,)), 3, 30).missing == {2: 2}

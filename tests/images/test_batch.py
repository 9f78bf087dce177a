"""Images to tensors: sizes, numbers and padding as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glip.errors import InputError
from glip.images import PreparedImage, collate, padded_hw, prepare, resized_hw
from tests.conftest import GOLDEN
from tests.golden.cases import Case, formula_image

SMALL_CASES = ["T_chelsea_six", "T_astronaut_six", "T_chelsea+astronaut_six"]


@pytest.mark.parametrize(
    ("size_hw", "imgsz", "expected"),
    [
        ((480, 640), 800, (800, 1066)),  # 1066.7 is cut, not rounded
        ((640, 480), 800, (1066, 800)),
        ((427, 640), 800, (800, 1199)),
        ((375, 1242), 800, (402, 1331)),  # the limit gives 402.5, and .5 goes to the even number
        ((500, 1000), 800, (666, 1332)),  # 666.5 too
        ((300, 1000), 800, (400, 1333)),
        ((1000, 300), 800, (1333, 400)),
        ((1000, 170), 800, (1335, 227)),  # 226.6 is rounded up, so the long side passes the limit, as published
        ((800, 1200), 800, (800, 1200)),
        ((1200, 800), 800, (1200, 800)),
        ((800, 800), 800, (800, 800)),
        ((800, 1333), 800, (800, 1333)),
        ((800, 1334), 800, (799, 1332)),
        ((300, 451), 320, (320, 481)),
        ((512, 512), 300, (300, 300)),
        ((100, 1000), 320, (53, 530)),  # limit 533
        ((100, 300), 300, (167, 501)),  # limit 500, rounded from 499.9
        ((600, 999), 800, (800, 1332)),  # just below the limit
        ((1, 1), 800, (800, 800)),
        ((1, 30000), 800, (1, 1333)),
        ((30000, 1), 800, (1333, 1)),
        ((1, 2665), 800, (1, 2665)),  # 0.5002 of a pixel is rounded to one
        ((1, 2667), 800, (1, 1333)),
        ((30000, 30000), 32, (32, 32)),
    ],
)
def test_sizes_follow_the_published_rule(size_hw: tuple[int, int], imgsz: int, expected: tuple[int, int]) -> None:
    assert resized_hw(size_hw, imgsz) == expected


def test_any_whole_number_in_the_range_is_a_size() -> None:
    size: Any = np.int64(320)
    assert resized_hw((100, 1000), size) == (53, 530)
    assert all(type(side) is int for side in resized_hw((100, 100), size))
    assert resized_hw((64, 64), 4096) == (4096, 4096)


@pytest.mark.parametrize("imgsz", [31, 4097, 0, -800, True, 800.0, "800", None])
def test_other_sizes_are_refused(imgsz: Any) -> None:
    with pytest.raises(InputError, match="imgsz") as caught:
        prepare(Image.new("RGB", (4, 4)), imgsz)
    assert repr(imgsz) in str(caught.value)


def check_inputs(case: Case) -> None:
    """Compares a batch with the input of the original network."""
    batch = case.batch()
    info = case.meta["arrays"]["input"]
    assert list(batch.pixels.shape) == info["shape"]
    sampled = batch.pixels.flatten()[:: info["stride"]].numpy()
    np.testing.assert_allclose(sampled, case.arrays["input"], rtol=0, atol=1e-5)
    for index, image in enumerate(case.meta["images"]):
        height, width = image["resized_hw"]
        assert batch.sizes_hw[index] == (height, width)
        assert batch.original_sizes_hw[index] == tuple(image["original_size_wh"][::-1])
        pixels = batch.pixels[index, :, :height, :width].double()
        numbers = [float(pixels.mean()), float(pixels.std()), float(pixels.norm())]
        np.testing.assert_allclose(numbers, image["mean_std_l2"], rtol=1e-5, atol=1e-6)
        assert not batch.pixels[index, :, height:].any()
        assert not batch.pixels[index, :, :, width:].any()


@pytest.mark.parametrize("name", ["T_formula_six", "A_formula_six"])
def test_an_image_that_needs_no_resizing_equals_the_original(name: str) -> None:
    assert np.asarray(formula_image()).sum() == 56626176
    check_inputs(Case.read(GOLDEN, name))


@pytest.mark.parametrize("name", SMALL_CASES)
def test_resized_images_equal_the_original(parity: Path, name: str) -> None:
    check_inputs(Case.read(parity / "cases", name))


def test_a_large_image_equals_the_original(parity: Path) -> None:
    case = Case.read(parity / "cases", "T_coffee_wide_coco80")
    assert case.meta["images"][0]["max_size"] == 1333
    check_inputs(case)


def test_every_golden_size_is_found(parity: Path) -> None:
    count = 0
    for path in (parity / "cases").glob("[ABTL]_*.json"):
        for image in json.loads(path.read_text())["images"]:
            width, height = image["original_size_wh"]
            assert resized_hw((height, width), image["min_size"]) == tuple(image["resized_hw"]), path.name
            count += 1
    assert count > 20


def test_channels_are_blue_green_red_in_rows_of_the_image() -> None:
    image = Image.new("RGB", (40, 32), (255, 0, 0))
    image.putpixel((7, 3), (1, 2, 3))
    prepared = prepare(image, 32)
    assert prepared.size_hw == prepared.resized_hw == (32, 40)
    assert prepared.pixels.shape == (3, 32, 40)
    assert prepared.pixels.dtype == torch.float32
    mean, std = torch.tensor([103.530, 116.280, 123.675]), torch.tensor([57.375, 57.120, 58.395])
    torch.testing.assert_close(
        prepared.pixels[:, 0, 0] * std + mean, torch.tensor([0.0, 0.0, 255.0]), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(prepared.pixels[:, 3, 7] * std + mean, torch.tensor([3.0, 2.0, 1.0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 3000), (3000, 1), (30000, 2)])
def test_extreme_images_become_tensors(size_wh: tuple[int, int]) -> None:
    prepared = prepare(Image.new("RGB", size_wh, (10, 20, 30)), 64)
    assert prepared.pixels.shape == (3, *prepared.resized_hw)
    assert min(prepared.resized_hw) >= 1
    assert prepared.pixels.isfinite().all()


@pytest.mark.parametrize(
    ("size", "padded"), [((1, 1), (32, 32)), ((32, 64), (32, 64)), ((33, 800), (64, 800)), ((800, 1333), (800, 1344))]
)
def test_sizes_are_padded_to_multiples_of_32(size: tuple[int, int], padded: tuple[int, int]) -> None:
    assert padded_hw(size) == padded


def test_a_batch_holds_each_image_in_its_corner() -> None:
    images = [
        PreparedImage(torch.randint(256, (40, 64, 3), dtype=torch.uint8), (80, 256)),
        PreparedImage(torch.randint(256, (30, 70, 3), dtype=torch.uint8), (15, 35)),
    ]
    batch = collate(images)
    pixels = batch.pixels_on(torch.device("cpu"))
    assert batch.rgb.shape == (2, 64, 96, 3)
    assert pixels.shape == (2, 3, 64, 96)
    assert torch.equal(pixels[0, :, :40, :64], images[0].pixels)
    assert torch.equal(pixels[1, :, :30, :70], images[1].pixels)
    inside = torch.zeros(2, 64, 96, dtype=torch.bool)
    inside[0, :40, :64] = inside[1, :30, :70] = True
    assert not pixels.movedim(1, -1)[~inside].any()
    assert batch.sizes_hw == [(40, 64), (30, 70)]
    assert batch.original_sizes_hw == [(80, 256), (15, 35)]
    assert batch.scales == [(4.0, 2.0), (0.5, 0.5)]

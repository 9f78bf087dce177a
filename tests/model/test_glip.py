"""The whole network: sizes, batches, precision, loading."""

from __future__ import annotations

import pytest
import torch

from glip.model.glip import GLIP, build_glip
from tests.tiny import TINY

IDS = torch.tensor([[1, 5, 9, 2]])


@pytest.mark.parametrize("size_hw", [(32, 32), (64, 96), (40, 75), (32, 320)])
def test_any_image_size_gives_one_row_of_anchors(tiny_glip: GLIP, size_hw: tuple[int, int]) -> None:
    with torch.inference_mode():
        outputs = tiny_glip(torch.randn(1, 3, *size_hw), IDS)
    places = [(-(-size_hw[0] // s), -(-size_hw[1] // s)) for s in (8, 16, 32, 64, 128)]
    assert outputs.level_sizes == tuple(h * w for h, w in places)
    count = sum(outputs.level_sizes)
    assert outputs.alignment.shape == (1, count, 4)
    assert outputs.deltas.shape == (1, count, 4)
    assert outputs.centerness.shape == (1, count)
    assert outputs.anchors.shape == (count, 4)


def test_images_of_equal_size_do_not_touch_each_other(tiny_glip: GLIP) -> None:
    torch.manual_seed(2)
    pixels = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        together = tiny_glip(pixels, IDS)
        alone = [tiny_glip(image[None], IDS) for image in pixels]
    for index, single in enumerate(alone):
        assert torch.allclose(together.alignment[index], single.alignment[0], atol=1e-5)
        assert torch.allclose(together.deltas[index], single.deltas[0], atol=1e-5)


def test_padding_of_an_image_takes_part_as_published(tiny_glip: GLIP) -> None:
    """Why only images of equal padded size share a batch: more padding is another result."""
    torch.manual_seed(2)
    pixels = torch.randn(1, 3, 64, 64)
    padded = torch.nn.functional.pad(pixels, (0, 64))
    with torch.inference_mode():
        small, large = tiny_glip(pixels, IDS), tiny_glip(padded, IDS)
    # The first location of P3 is the same in both.
    difference = (small.alignment[0, 0] - large.alignment[0, 0]).abs().max()
    assert 1e-6 < difference < 1.0


def test_bfloat16_stays_near_float32(tiny_glip: GLIP) -> None:
    torch.manual_seed(3)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        exact = tiny_glip(pixels, IDS)
        with torch.autocast("cpu", torch.bfloat16):
            half = tiny_glip(pixels, IDS)
    assert half.alignment.dtype == half.deltas.dtype == torch.float32
    assert 0 < (half.alignment - exact.alignment).abs().max() < 0.1
    assert 0 < (half.deltas - exact.deltas).abs().max() < 0.1


@pytest.mark.parametrize("size_hw", [(64, 96), (160, 224)])
def test_weights_kept_in_half_precision_predict_the_same_to_the_bit(tiny_glip: GLIP, size_hw: tuple[int, int]) -> None:
    torch.manual_seed(3)
    pixels = torch.randn(2, 3, *size_hw)
    kept = build_glip(TINY, {name: value.clone() for name, value in tiny_glip.state_dict().items()}).eval()
    kept.lower(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        every_time, once = (network(pixels, IDS) for network in (tiny_glip, kept))
    assert torch.equal(every_time.alignment, once.alignment)
    assert torch.equal(every_time.deltas, once.deltas)
    assert torch.equal(every_time.centerness, once.centerness)
    half = [name for name, value in kept.state_dict().items() if value.dtype == torch.bfloat16]
    assert {name.partition(".")[0] for name in half} == {"backbone", "neck", "text_encoder", "fusion"}
    assert all(name.endswith((".weight", ".bias")) and "norm" not in name for name in half)


def test_a_loaded_model_equals_the_one_it_was_saved_from(tiny_glip: GLIP) -> None:
    loaded = build_glip(TINY, tiny_glip.state_dict()).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(pixels, IDS).alignment, tiny_glip(pixels, IDS).alignment)


def test_a_missing_tensor_is_not_forgiven(tiny_glip: GLIP) -> None:
    state = tiny_glip.state_dict()
    del state["head.box.weight"]
    with pytest.raises(RuntimeError, match=r"head\.box\.weight"):
        build_glip(TINY, state)


def test_what_prediction_caches_serves_training(tiny_glip: GLIP) -> None:
    """Anchors and masks first made in inference mode must not poison autograd."""
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        tiny_glip(pixels, IDS)
    tiny_glip.train()
    outputs = tiny_glip(pixels, IDS)
    (outputs.alignment.sum() + outputs.deltas.sum() + outputs.centerness.sum()).backward()
    without = [name for name, parameter in tiny_glip.named_parameters() if parameter.grad is None]
    assert without == []

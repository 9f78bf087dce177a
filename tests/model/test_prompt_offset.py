"""A tuned prompt: one tensor beside the model, added to the text before the tower."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glip.model.glip import GLIP, build_glip
from tests.tiny import TINY, tiny_model

IDS = torch.tensor([[2, 20, 5, 30, 3]])
WIDTH = TINY.text.hidden_size


@torch.inference_mode()
def alignment(model: GLIP) -> torch.Tensor:
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    return model(pixels, IDS).alignment


def test_without_one_the_model_is_the_published_one() -> None:
    model = tiny_model()
    before, names = alignment(model), list(model.state_dict())
    assert not any("offset" in name and "dyhead" not in name for name in names)
    model.set_prompt_offset(torch.randn(256, WIDTH))
    assert not torch.equal(alignment(model), before)
    model.set_prompt_offset(None)
    assert torch.equal(alignment(model), before)
    assert list(model.state_dict()) == names


def test_row_j_is_added_to_token_j() -> None:
    model, offset = tiny_model(), torch.randn(256, WIDTH)
    with torch.inference_mode():
        plain = model.encode_text(IDS).hidden
        model.set_prompt_offset(offset)
        tuned = model.encode_text(IDS)
    assert torch.equal(tuned.hidden, plain + offset[:5])
    assert tuned.mask is None


def test_the_mask_of_padded_text_is_kept() -> None:
    model = tiny_model()
    model.set_prompt_offset(torch.ones(256, WIDTH))
    mask = torch.tensor([[True, True, True, False, False]])
    assert model.encode_text(IDS, mask).mask is mask


@pytest.mark.parametrize("deep_fusion", [True, False])
def test_it_reaches_the_scores_with_and_without_fusion(deep_fusion: bool) -> None:
    torch.manual_seed(0)
    model = build_glip(replace(TINY, deep_fusion=deep_fusion)).eval()
    torch.nn.init.normal_(model.head.text.weight)
    before = alignment(model)
    offset = torch.zeros(256, WIDTH)
    offset[2] = torch.randn(WIDTH)
    model.set_prompt_offset(offset)
    changed = (alignment(model) - before).abs().amax((0, 1)) > 0
    assert changed[2]
    # Without fusion tokens never meet again after the encoder.
    assert changed.all() if deep_fusion else changed.sum() == 1


def test_it_follows_the_models_precision() -> None:
    model = tiny_model().double()
    model.set_prompt_offset(torch.zeros(256, WIDTH))
    assert model.prompt_offset is not None
    assert model.prompt_offset.dtype == torch.float64

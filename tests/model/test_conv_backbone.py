"""The convolutional backbone: equality with timm's, freezing, folding, half precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from glip.images.batch import PreparedImage, collate
from glip.model.config import ConvConfig, GLIPConfig
from glip.model.conv_backbone import ConvBackbone, GainConv
from glip.model.glip import GLIP, build_glip
from glip.training.initial_weights import fresh_model
from glip.training.modes import enter_train_mode, select_trainable
from glip.weights.convert import expected_shapes
from glip.weights.lite0 import from_timm_lite0
from glip.weights.random_weights import random_state
from tests.tiny import TINY

CONV = replace(TINY, swin=None, conv=ConvConfig())


def timms() -> Any:
    """timm's network with random weights and random batch norm statistics."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def converted(network: Any) -> ConvBackbone:
    backbone = ConvBackbone(ConvConfig()).eval()
    state = from_timm_lite0(network.state_dict())
    backbone.load_state_dict({name.removeprefix("backbone."): value for name, value in state.items()})
    return backbone


@pytest.mark.parametrize("size_hw", [(64, 96), (75, 101)])
def test_its_maps_are_timms_from_the_pixels_of_the_pipeline(size_hw: tuple[int, int]) -> None:
    network = timms()
    rgb = torch.randint(0, 256, (2, *size_hw, 3), dtype=torch.uint8)
    pixels = torch.stack([PreparedImage(image, size_hw).pixels for image in rgb])
    with torch.no_grad():
        wanted: list[torch.Tensor] = network.forward_intermediates(
            (rgb.permute(0, 3, 1, 2).float() - 127) / 128, indices=(2, 3, 4), intermediates_only=True
        )
        found = converted(network)(pixels)
    assert [x.shape[1] for x in found] == [40, 112, 320] == list(ConvConfig().out_channels)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_folding_the_gain_keeps_the_function() -> None:
    backbone = converted(timms())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(pixels)
        backbone.fold()
        after = backbone(pixels)
    assert all(bool((x.gain == 1).all()) for x in backbone.modules() if isinstance(x, GainConv))
    assert all(torch.allclose(one, two, rtol=1e-5, atol=1e-6) for one, two in zip(before, after, strict=True))


def conv_model(config: GLIPConfig = CONV) -> GLIP:
    return build_glip(config, random_state(config)).eval()


def outputs(model: GLIP) -> tuple[Tensor, Tensor]:
    rgb = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = collate([PreparedImage(rgb, (64, 64))])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = model(batch.pixels, torch.tensor([[2, 20, 21, 3]]))
    return found.alignment, found.deltas


def test_lowered_weights_predict_what_autocast_does() -> None:
    model = conv_model()
    before = outputs(model)
    model.lower(torch.bfloat16)
    assert {x.weight.dtype for x in model.backbone.modules() if isinstance(x, nn.Conv2d)} == {torch.bfloat16}
    assert all(torch.equal(one, two) for one, two in zip(before, outputs(model), strict=True))


def test_a_model_is_built_from_its_tensors_alone() -> None:
    model = conv_model()
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    assert {name for name in model.state_dict() if name.startswith("backbone.")} == {
        name for name in expected_shapes(CONV) if name.startswith("backbone.")
    }


def test_fine_tuning_freezes_it_up_to_stride_8() -> None:
    model = fresh_model(CONV)
    select_trainable(model, "full")
    enter_train_mode(model, "full")
    assert isinstance(model.backbone, ConvBackbone)
    assert not model.backbone.stem.training
    assert model.backbone.stride16.training
    maps = model.backbone(torch.randn(1, 3, 64, 64))
    assert [x.requires_grad for x in maps] == [False, True, True]
    sum(x.sum() for x in maps).backward()
    learning = {name.split(".")[0] for name, x in model.backbone.named_parameters() if x.grad is not None}
    assert learning == {"stride16", "stride32"}


def test_fresh_weights_keep_the_scale_of_the_signal() -> None:
    with torch.no_grad():
        maps = fresh_model(CONV).backbone(torch.randn(1, 3, 96, 96))
    assert all(0.01 < float(x.std()) < 100 for x in maps)

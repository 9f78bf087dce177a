"""Random initial weights for pre-training.

Source: the initial values of the papers of each part: Swin (arXiv:2103.14030), FPN (arXiv:1612.03144), DyHead
(arXiv:2106.08322), RetinaNet's prior probability (arXiv:1708.02002).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.init import kaiming_normal_, kaiming_uniform_, normal_, ones_, trunc_normal_, xavier_uniform_, zeros_

from glip.model.config import GLIPConfig
from glip.model.conv_backbone import GainConv
from glip.model.dyhead import DeformConv, DyHeadBlock
from glip.model.fusion import ImageTextAttention
from glip.model.glip import GLIP, build_glip

# Standard deviation of a linear layer's weights, times the square root of its number of inputs: the usual 0.02 for 768.
_SPREAD = 0.55


@torch.no_grad()
def fresh_model(config: GLIPConfig, seed: int = 0) -> GLIP:
    """Returns a network with random weights.

    Args:
        config: the architecture.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    model = build_glip(config)
    for part in (model.backbone, model.text_encoder, *(block for block in model.fusion.blocks)):
        for module in part.modules():
            _reset(module)
    for module in model.neck.modules():
        if isinstance(module, nn.Conv2d):
            kaiming_uniform_(module.weight, a=1)
            zeros_(module.bias)  # type: ignore[arg-type]
    for module in model.fusion.modules():
        if isinstance(module, ImageTextAttention):
            _reset_attention(module)
        elif isinstance(module, DyHeadBlock):
            _reset_dyhead(module)
    normal_(model.head.box.weight, std=0.01)
    normal_(model.head.centerness.weight, std=0.01)
    zeros_(model.head.box.bias)  # type: ignore[arg-type]
    zeros_(model.head.centerness.bias)  # type: ignore[arg-type]
    # Token features have length one when they are projected, so the default gain would make all logits nearly equal.
    xavier_uniform_(model.head.text.weight, gain=3)
    zeros_(model.head.text.bias)
    return model


def _reset(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        trunc_normal_(module.weight, std=_SPREAD * module.weight.shape[1] ** -0.5)
        if isinstance(module, nn.Linear) and module.bias is not None:
            zeros_(module.bias)
    elif isinstance(module, GainConv):
        kaiming_normal_(module.weight, nonlinearity="relu")
        ones_(module.gain)
        zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
        ones_(module.weight)
        zeros_(module.bias)


def _reset_attention(module: ImageTextAttention) -> None:
    for layer in (module.query, module.key, module.image_value, module.text_value, module.image_out, module.text_out):
        xavier_uniform_(layer.weight)
        zeros_(layer.bias)


def _reset_dyhead(block: DyHeadBlock) -> None:
    for module in block.modules():
        if isinstance(module, DeformConv):
            # A GroupNorm follows, so only the direction of the weights matters; the modulation starts at one half.
            normal_(module.conv.weight, std=2 * module.conv.weight[0].numel() ** -0.5)
            zeros_(module.conv.bias)  # type: ignore[arg-type]
    normal_(block.offset.weight, std=0.005)
    zeros_(block.offset.bias)  # type: ignore[arg-type]

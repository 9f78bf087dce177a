"""Switches a network between its fast forms, the published order of operations and a compiled backbone.

All give the same results up to rounding. Tests and `glip bench` compare them; everything else runs the fast forms.
"""

from __future__ import annotations

from timm.models.swin_transformer import WindowAttention
from torch import nn

from glip.model.backbone import SwinBlock
from glip.model.cpu_linear import Linear
from glip.model.dyhead import DyHeadBlock
from glip.model.fusion import ImageTextAttention
from glip.model.glip import GLIP


def use_plain_forms(network: nn.Module, plain: bool = True) -> None:
    """Makes a network compute in the published order of operations, or in the fast one again (`plain=False`).

    The plain forms: attention with wide projections of every location; deformable convolutions by torchvision's
    operator; every step of DyHead's mixing and of Swin's attention on its own; products by the library PyTorch chooses.
    The original also pads the text to 256 tokens; that is left to the caller.
    """
    for module in network.modules():
        if isinstance(module, ImageTextAttention | DyHeadBlock | Linear | SwinBlock):
            module.plain_form = plain
        elif isinstance(module, WindowAttention):
            module.fused_attn = not plain


def compile_backbone(network: GLIP) -> None:
    """Compiles the backbone by `torch.compile`, at the first image and once more for other sizes.

    The other parts are products and gathers that a compiler does not improve. Swin's plain form is compiled, because
    its tiles are meant for eager execution.
    """
    for module in network.backbone.modules():
        if isinstance(module, SwinBlock | Linear):
            module.plain_form = True
    network.backbone.compile()

"""One switch between the fast forms of the network's parts and the published order of operations, and a compiled one.

All give the same numbers to rounding. Tests and `glip bench` compare them; everything else runs the fast ones.
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
    """Lets a network compute in the published order, or (`plain=False`) in the fast one again.

    Plain are: attention with its wide projections of every place; deformable convolutions by torchvision's operator;
    each step of DyHead's mixing and of Swin's attention on its own; products by the library PyTorch chooses.
    Padding the text to 256 tokens, as the original does, is the caller's part.
    """
    for module in network.modules():
        if isinstance(module, ImageTextAttention | DyHeadBlock | Linear | SwinBlock):
            module.plain_form = plain
        elif isinstance(module, WindowAttention):
            module.fused_attn = not plain


def compile_backbone(network: GLIP) -> None:
    """Lets `torch.compile` make one program of the backbone. It compiles at the first image, and once more for sizes.

    The other parts are products and gathers that a compiler leaves as they are. Their tiles are for eager CPUs: a
    program is made of the plain order of Swin's steps.
    """
    for module in network.backbone.modules():
        if isinstance(module, SwinBlock | Linear):
            module.plain_form = True
    network.backbone.compile()

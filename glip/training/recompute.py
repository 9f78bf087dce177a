"""Less memory for more time: blocks forget what they computed, and compute it again in the backward pass."""

from __future__ import annotations

from functools import partial

from torch.utils.checkpoint import checkpoint

from glip.model.backbone import SwinBlock
from glip.model.fusion import FusionBlock
from glip.model.glip import GLIP


def recompute_blocks(model: GLIP) -> None:
    """Lets every block of Swin and of the tower keep its input only. The numbers stay the same, dropout included."""
    for module in model.modules():
        if isinstance(module, (SwinBlock, FusionBlock)):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]

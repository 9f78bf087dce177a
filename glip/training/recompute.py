"""Less memory for more time: blocks forget what they computed, and compute it again in the backward pass."""

from __future__ import annotations

from functools import partial

from torch.utils.checkpoint import checkpoint

from glip.model.glip import GLIP


def recompute_blocks(model: GLIP) -> None:
    """Lets every block of Swin and of the tower keep its input only. The numbers stay the same, dropout included."""
    blocks = [block for stage in model.backbone.stages for block in stage.blocks]
    for block in (*blocks, *model.fusion.blocks):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)

"""Both directions of the image-text attention in one pass over the locations, for prediction on a CPU.

`fusion.ImageTextAttention.forward` computes the same with gradients: it writes the logits of all locations to memory
and reads them many times. Here a tile of locations stays in the cache, and one exponential serves both softmaxes.
Derivation: `docs/model.md`, "Fusion in tiles".
"""

from __future__ import annotations

import torch
from torch import Tensor

VALUES_PER_TILE = 2**20  # logits in one tile: 4 MiB of float32
# With logits farther apart than this, the smallest exponential loses digits beside the largest (float32 ends at e⁻⁸⁷).
MAXIMUM_RANGE = 80.0


def attend_in_tiles(
    locations: Tensor,
    to_logits: Tensor,
    logit_bias: Tensor,
    from_text: Tensor,
    mask: Tensor | None,
    num_heads: int,
    limit: float,
) -> tuple[Tensor, Tensor] | None:
    """Computes image-text attention of one image in both directions.

    Args:
        locations: (N, C) float32 or better; also the residual.
        to_logits: (C, H * T) matrix from locations to logits.
        logit_bias: (H * T,).
        from_text: (H * T, C) values that locations receive; may be of lower precision, as `to_logits` may.
        mask: (T,) True at real tokens, None if all are.
        num_heads: H.
        limit: absolute value beyond which logits would have to be clamped.

    Returns:
        (N, C) locations plus their attention over tokens, and (H, T, C) locations summed with each token's attention
        over them. None if the logits are too far apart for one exponential; then the caller computes it directly.
    """
    columns, precision = to_logits.shape[1], from_text.dtype
    out = torch.empty_like(locations)
    gathered = locations.new_zeros(columns, locations.shape[1])
    total = locations.new_zeros(columns)
    shown = None if mask is None else mask.repeat(num_heads).to(locations.dtype)
    highest, lowest = -torch.inf, torch.inf
    at_once = max(256, VALUES_PER_TILE // columns)
    for start in range(0, len(locations), at_once):
        some = locations[start : start + at_once]
        rows = some.to(precision)
        logits = torch.addmm(logit_bias, rows, to_logits).to(locations.dtype)
        minimum, maximum = (float(value) for value in torch.aminmax(logits))
        lowest, before, highest = min(lowest, minimum), highest, max(highest, maximum)
        if not (highest - lowest <= MAXIMUM_RANGE and max(abs(lowest), abs(highest)) < limit):
            return None
        if start and highest > before:
            shrink = float(torch.tensor(before - highest, dtype=locations.dtype).exp())
            gathered, total = gathered.mul_(shrink), total.mul_(shrink)
        raised = logits.sub_(highest).exp_()
        total += raised.sum(0)
        gathered += raised.to(precision).t() @ rows
        if shown is not None:
            raised *= shown
        by_head = raised.unflatten(1, (num_heads, -1))
        by_head /= by_head.sum(2, keepdim=True)
        _add_product(some, raised.to(precision), from_text, out[start : start + at_once])
    return out, (gathered / total[:, None]).unflatten(0, (num_heads, -1))


def _add_product(residual: Tensor, left: Tensor, right: Tensor, out: Tensor) -> None:
    if left.dtype == residual.dtype:
        torch.addmm(residual, left, right, out=out)
    else:
        # In two passes, because PyTorch copies values of another type before it adds them.
        out.copy_(left @ right).add_(residual)

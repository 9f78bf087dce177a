"""Both directions of the image-text attention in one walk over the places, to predict on a CPU. Source: PERF section 2.

`fusion.ImageTextAttention.forward` is the same sum with gradients: it writes the logits of all places to memory and
reads them many times. Here a tile of places stays in the cache, and one exponential serves both softmaxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUMBERS_AT_ONCE = 2**20  # logits in one tile: 4 MiB of float32
# Farther apart than this, the smallest exponential would lose digits beside the largest (float32 ends at e**-87).
WIDEST_RANGE = 80.0


def attend_in_tiles(
    places: Tensor,
    to_logits: Tensor,
    logit_bias: Tensor,
    from_text: Tensor,
    mask: Tensor | None,
    num_heads: int,
    limit: float,
) -> tuple[Tensor, Tensor] | None:
    """What the text adds to each place of one image, and what the places add to each token.

    Args:
        places: (N, C) float32 or better; the residual, too.
        to_logits: (C, H * T), the text's side of the logits.
        logit_bias: (H * T,).
        from_text: (H * T, C) values that the tokens bring; may be of lower precision, as `to_logits` may.
        mask: (T,) True at real tokens, None if all are.
        num_heads: H.
        limit: logits beyond it would have to be clamped.

    Returns:
        (N, C) places + attention over tokens, and (H, T, C) places summed with each token's attention over places.
        None if the logits are too far apart for one exponential; nothing is wrong then, but it must be done plainly.
    """
    columns, precision = to_logits.shape[1], from_text.dtype
    out = torch.empty_like(places)
    gathered = places.new_zeros(columns, places.shape[1])
    total = places.new_zeros(columns)
    shown = None if mask is None else mask.repeat(num_heads).to(places.dtype)
    highest, lowest = -torch.inf, torch.inf
    at_once = max(256, NUMBERS_AT_ONCE // columns)
    for start in range(0, len(places), at_once):
        some = places[start : start + at_once]
        rows = some.to(precision)
        logits = torch.addmm(logit_bias, rows, to_logits).to(places.dtype)
        least, most = (float(value) for value in torch.aminmax(logits))
        lowest, before, highest = min(lowest, least), highest, max(highest, most)
        if not (highest - lowest <= WIDEST_RANGE and max(abs(lowest), abs(highest)) < limit):
            return None
        if start and highest > before:
            shrink = float(torch.tensor(before - highest, dtype=places.dtype).exp())
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
        # Two passes, because PyTorch copies numbers of another type to memory of its own before it adds them.
        out.copy_(left @ right).add_(residual)

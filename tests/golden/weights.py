"""The pseudo-random weights that the golden numbers were made with.

Every tensor depends on its own name and shape only, so a bare clone can make them again: the generator is seeded with
the first eight bytes of the name's SHA-256, and the normal numbers are brought to `centre + spread * normal` by the
first rule whose pattern is found in the name. The weights mean nothing; the code that runs on them does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent

# pattern, centre, spread, and whether the spread is divided by the square root of the fan-in
RULES: tuple[tuple[str, float, float, bool], ...] = (
    (r"head\.bias0$", -4.2, 0.1, False),
    (r"head\.bias_lang$", 0.0, 0.5, False),
    (r"head\.log_scale$", 0.1, 0.05, False),
    (r"head\.scales\.\d+\.scale$", 1.0, 0.1, False),
    (r"gamma_[vl]$", 0.75, 0.1, False),
    (r"tunable_linear\.weight$", 0.0, 0.1, False),
    (r"relative_position_bias_table$", 0.0, 0.5, False),
    (r"embeddings\.token_type_embeddings\.weight$", 0.0, 0.1, False),
    (r"embeddings\.\w+_embeddings\.weight$", 0.0, 0.5, False),
    (r"(norm\d*|norm_[vl]|LayerNorm|\.bn)\.weight$", 1.0, 0.1, False),
    (r"(norm\d*|norm_[vl]|LayerNorm|\.bn)\.bias$", 0.0, 0.1, False),
    (r"dot_product_projection_text\.weight$", 0.0, 16.0, True),
    (r"head\.bbox_pred\.weight$", 0.0, 4.0, True),
    (r"head\.centerness\.weight$", 0.0, 3.0, True),
    (r"\.offset\.weight$", 0.0, 1.5, True),
    (r"AttnConv\.1\.weight$", 0.0, 6.0, True),
    (r"relu\.fc\.[02]\.weight$", 0.0, 3.0, True),
    (r"attn\.[vl]_proj\.weight$", 0.0, 1.5, True),
    (r"self\.(query|key)\.weight$", 0.0, 1.5, True),
    (r"(attention\.)?output\.dense\.weight$", 0.0, 0.25, True),
    (r"attn\.out_l_proj\.weight$", 0.0, 0.5, True),
    (r"\.weight$", 0.0, 1.0, True),
    (r"\.bias$", 0.0, 0.1, False),
)


def make_state(variant: str) -> dict[str, Tensor]:
    """The state dict of the original's `variant` (A, B, T or L), without the `module.` prefix."""
    names = json.loads((FOLDER / f"names_{variant}.json").read_text())
    return {name: make_tensor(name, shape) for name, shape, _ in names}


def make_tensor(name: str, shape: Sequence[int]) -> Tensor:
    """One tensor, from its name and shape."""
    if name.endswith("relative_position_index"):
        return _relative_position_index(round(shape[0] ** 0.5))
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).view(*shape)
    if found := re.search(r"cell_anchors\.(\d)$", name):
        stride = 8 * 2 ** int(found[1])
        middle, half = (stride - 1) / 2, (8 * stride - 1) / 2
        return torch.tensor([[middle - half, middle - half, middle + half, middle + half]])
    centre, spread, by_fan_in = next(rule[1:] for rule in RULES if re.search(rule[0], name))
    if by_fan_in:
        spread /= float(np.sqrt(prod(shape[1:])))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape), dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(centre)
    return torch.from_numpy(values)


def _relative_position_index(window: int) -> Tensor:
    y, x = np.divmod(np.arange(window * window), window)
    rows = y[:, None] - y[None, :] + window - 1
    columns = x[:, None] - x[None, :] + window - 1
    return torch.from_numpy(rows * (2 * window - 1) + columns)

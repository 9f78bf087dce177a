"""Prediction layers: alignment of locations with tokens, box deltas, centerness.

Source: the paper (arXiv:2112.03857), section 3.1, and `docs/model.md`, "Head".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.fusion import LOGIT_LIMIT
from glip.model.precision import at_least_float32

# Every token begins as unlikely: sigmoid(bias) is 0.01 (arXiv:1708.02002, section 4.1).
PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


class AlignHead(nn.Module):
    """Scores every location against every token and predicts a box there."""

    def __init__(self, channels: int, text_dim: int, num_levels: int) -> None:
        super().__init__()
        self.box = nn.Conv2d(channels, 4, 1)
        self.centerness = nn.Conv2d(channels, 1, 1)
        self.text = nn.Linear(text_dim, channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_text = nn.Parameter(torch.zeros(text_dim))
        self.bias = nn.Parameter(torch.full((1,), PRIOR_BIAS))
        self.scales = nn.Parameter(torch.ones(num_levels))

    def forward(self, maps: Sequence[Tensor], hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the predictions of all levels, level after level, row-major.

        Args:
            maps: five (B, C, h, w).
            hidden: (B, T, D) text after the tower.

        Returns:
            alignment (B, A, T) logits, deltas (B, A, 4), centerness (B, A) logits, all float32 or better. Alignment
            with padded tokens means nothing and must not be read.
        """
        maps = [at_least_float32(x) for x in maps]
        # This last, small part always runs in float32: half precision would make the scores coarser.
        with torch.autocast(hidden.device.type, enabled=False):
            deltas = [self.box(x) * scale for x, scale in zip(maps, self.scales, strict=True)]
            centerness = [self.centerness(x) for x in maps]
            locations = torch.cat([_rows(x) for x in maps], dim=1)
            alignment = self._align(locations, at_least_float32(hidden))
        return alignment, torch.cat([_rows(x) for x in deltas], 1), torch.cat([_rows(x) for x in centerness], 1)[..., 0]

    def _align(self, locations: Tensor, hidden: Tensor) -> Tensor:
        """Returns (B, A, T) logits of (B, A, C) locations and (B, T, D) text."""
        words = F.normalize(hidden, dim=-1, eps=1e-12)
        # Matches the published model: halved for the projection, not for the bias.
        projected = self.text(words / 2)
        bias = words @ self.bias_text + self.bias
        logits = locations @ projected.transpose(1, 2) / self.log_scale.exp() + bias[:, None]
        return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)


def _rows(x: Tensor) -> Tensor:
    """Flattens (B, C, h, w) to (B, h * w, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)

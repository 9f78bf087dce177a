"""A convolutional backbone: EfficientNet-Lite, stored without batch norm.

Batch norm in evaluation mode multiplies every channel of a convolution and adds to it. Here that factor is `gain`, a
part of the convolution, so that it needs no pass over the activations. `weights.lite0` reads timm's weights.
Source: arXiv:1905.11946, timm's `tf_` port, and `docs/model.md`, "Convolutional backbone". Knows nothing of text or
boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.config import CONV_NETWORKS, ConvConfig, ConvStage

STEM_CHANNELS = 32
STEM_STAGES = 3  # stages up to stride 8
# Pixels arrive as (value - mean) / std in BGR; the network was trained on (value - 127) / 128 in RGB.
_MEAN_BGR, _STD_BGR = (103.530, 116.280, 123.675), (57.375, 57.120, 58.395)


class GainConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding and a factor per output channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)
        self.gain = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H/stride, W/stride), rounded up."""
        if self.stride[0] > 1:
            x = F.pad(x, (*self._padding(x.shape[3]), *self._padding(x.shape[2])))
        return self._conv_forward(x, self.weight * self.gain[:, None, None, None], self.bias)

    def fold(self) -> None:
        """Multiplies the weight by the gain, which changes no output. For prediction only."""
        self.weight.data = self.weight.data * self.gain.data[:, None, None, None]
        self.gain.data = torch.ones_like(self.gain.data)

    def _padding(self, side: int) -> tuple[int, int]:
        """Returns the padding before and after one side of the map; an odd cell comes after."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Widens the map, convolves each channel separately, narrows it, and adds the input if the shapes are equal."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = GainConv(inputs, width) if expansion > 1 else None
        self.depthwise = GainConv(width, width, kernel, stride, groups=width)
        self.project = GainConv(width, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H/stride, W/stride), rounded up."""
        wide = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        out = self.project(F.relu6(self.depthwise(wide), inplace=True))
        return x + out if self.residual else out


class ConvBackbone(nn.Module):
    """EfficientNet-Lite with the three outputs that the neck reads."""

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        stages, inputs = [], STEM_CHANNELS
        for stage in CONV_NETWORKS[config.network]:
            stages.append(_build_stage(stage, inputs))
            inputs = stage.channels
        # Grouped by the stride of their outputs; fine-tuning freezes the stem.
        self.stem = nn.Sequential(GainConv(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True), *stages[:STEM_STAGES])
        self.stride16 = nn.Sequential(*stages[STEM_STAGES : STEM_STAGES + 2])
        self.stride32 = nn.Sequential(*stages[STEM_STAGES + 2 :])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the feature maps of one batch.

        Args:
            pixels: (B, 3, H, W) normalised, any size.

        Returns:
            C3, C4, C5: (B, *, H/8, W/8), (B, *, H/16, W/16), (B, *, H/32, W/32), see `ConvConfig.out_channels`.
        """
        x = _as_trained(pixels).contiguous(memory_format=torch.channels_last)
        c3 = self.stem(x)
        c4 = self.stride16(c3)
        return c3, c4, self.stride32(c4)

    def fold(self) -> None:
        """Folds every gain into its weight, see `GainConv.fold`."""
        for module in self.modules():
            if isinstance(module, GainConv):
                module.fold()


def _build_stage(stage: ConvStage, inputs: int) -> nn.Sequential:
    kernel, expansion = stage.kernel, stage.expansion
    first = InvertedResidual(inputs, stage.channels, kernel, stage.stride, expansion)
    rest = (InvertedResidual(stage.channels, stage.channels, kernel, 1, expansion) for _ in range(stage.blocks - 1))
    return nn.Sequential(first, *rest)


def _as_trained(pixels: Tensor) -> Tensor:
    """Maps (B, 3, H, W) pixels, BGR with GLIP's normalisation, to RGB with the network's own."""
    std = pixels.new_tensor(_STD_BGR)[:, None, None]
    mean = pixels.new_tensor(_MEAN_BGR)[:, None, None]
    return torch.addcmul((mean - 127) / 128, pixels, std / 128).flip(1)

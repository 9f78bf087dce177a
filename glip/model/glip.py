"""GLIP: the network, assembled from its parts. Tensors in, tensors out; it knows no files, words or names.

Source: the paper (arXiv:2112.03857), section 3, and `docs/model.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from timm.models.swin_transformer import WindowAttention, get_relative_position_index
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertEmbeddings

from glip.model.anchors import make_anchors
from glip.model.backbone import Backbone
from glip.model.config import ConvConfig, GLIPConfig
from glip.model.conv_backbone import ConvBackbone
from glip.model.fusion import FusionBlock, FusionTower
from glip.model.head import AlignHead
from glip.model.neck import FPN
from glip.model.precision import lower_products
from glip.model.text import TextEncoder, TextFeatures


@dataclass(frozen=True)
class RawOutputs:
    """Outputs of the network before any selection. A is the number of anchors of all levels, finest level first.

    Attributes:
        alignment: (B, A, T) logits of every anchor for every token.
        deltas: (B, A, 4) from anchor to box, see `anchors.decode`.
        centerness: (B, A) logits.
        anchors: (A, 4) xyxy in pixels of the network input.
        level_sizes: number of anchors of each level; they sum to A.
    """

    alignment: Tensor
    deltas: Tensor
    centerness: Tensor
    anchors: Tensor
    level_sizes: tuple[int, ...]

    def part(self, rows: slice, tokens: int) -> RawOutputs:
        """Returns some rows of the batch, with the first `tokens` tokens only."""
        return replace(
            self,
            alignment=self.alignment[rows, :, :tokens],
            deltas=self.deltas[rows],
            centerness=self.centerness[rows],
        )


class GLIP(nn.Module):
    """Grounded Language-Image Pre-training: a detector that reads its classes (CVPR 2022, arXiv:2112.03857)."""

    # (at least T, D), added to the text features; learned by prompt tuning. Published checkpoints have none.
    prompt_offset: nn.Parameter | None

    def __init__(
        self,
        backbone: Backbone | ConvBackbone,
        neck: FPN,
        text_encoder: TextEncoder,
        fusion: FusionTower,
        head: AlignHead,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.text_encoder = text_encoder
        self.fusion = fusion
        self.head = head
        self.register_parameter("prompt_offset", None)

    def set_prompt_offset(self, offset: Tensor | None) -> None:
        """Sets the tuned prompt (at least T, D) that is added before the tower, or removes it (None)."""
        like = self.head.bias_text
        self.prompt_offset = None if offset is None else nn.Parameter(offset.to(like.device, like.dtype))

    def lower(self, dtype: torch.dtype) -> None:
        """Converts to half precision the weights that autocast converts in every call, see `lower_products`.

        Predictions stay the same. The head and the image-text attention read their weights in float32 and keep them.
        """
        if isinstance(self.backbone, ConvBackbone):
            self.backbone.fold()  # autocast lowers the product of weight and gain, not each of them
        lower_products(self.backbone, dtype)
        lower_products(self.neck, dtype)
        lower_products(self.text_encoder, dtype)
        for block in self.fusion.blocks:
            assert isinstance(block, FusionBlock)
            lower_products(block.dyhead, dtype)
            if block.deep_fusion:
                lower_products(block.text, dtype)
        # Weights that stay are copied, so that the memory-mapped file they came from can be closed.
        for parameter in self.parameters():
            if parameter.dtype != dtype:
                parameter.data = parameter.data.clone()

    def encode_image(self, pixels: Tensor) -> list[Tensor]:
        """Maps (B, 3, H, W) normalised pixels to P3 ... P7, each (B, C, h, w). They serve any number of prompts."""
        return self.neck(self.backbone(pixels))

    def encode_text(self, input_ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Maps (B, T) token ids to text features. They serve any number of images. Without padding `mask` is None."""
        text = self.text_encoder(input_ids, mask)
        return text if self.prompt_offset is None else text.shifted(self.prompt_offset)

    def ground(self, maps: Sequence[Tensor], text: TextFeatures) -> RawOutputs:
        """Predicts from pyramid maps (B, C, h, w) and the text of B prompts, or of one for the whole batch."""
        batch = maps[0].shape[0]
        sizes_hw = [(x.shape[2], x.shape[3]) for x in maps]
        maps, text = self.fusion(maps, text.expand(batch) if text.hidden.shape[0] != batch else text)
        alignment, deltas, centerness = self.head(maps, text.hidden)
        anchors = make_anchors(sizes_hw, alignment.device)
        return RawOutputs(alignment, deltas, centerness, anchors, tuple(h * w for h, w in sizes_hw))

    def forward(self, pixels: Tensor, input_ids: Tensor, mask: Tensor | None = None) -> RawOutputs:
        """Predicts from images (B, 3, H, W) and prompts (B or 1, T), in training and in prediction alike."""
        return self.ground(self.encode_image(pixels), self.encode_text(input_ids, mask))


def build_glip(config: GLIPConfig, state: Mapping[str, Tensor] | None = None) -> GLIP:
    """Builds the network.

    Args:
        config: the architecture.
        state: every tensor of the network by name, used without a copy; None for random weights.

    Raises:
        RuntimeError: a tensor is missing, unknown or of another shape (`glip.weights` checks that first).
    """
    if state is None:
        return _assemble(config)
    with torch.device("meta"):
        model = _assemble(config)
    model.load_state_dict(state, strict=True, assign=True)
    _fill_constants(model)
    return model


def _assemble(config: GLIPConfig) -> GLIP:
    return GLIP(
        backbone=Backbone(config.swin) if config.swin else ConvBackbone(config.conv or ConvConfig()),
        neck=FPN(config.backbone.out_channels, config.channels),
        text_encoder=TextEncoder(config.text),
        fusion=FusionTower(config),
        head=AlignHead(config.channels, config.text.hidden_size, config.num_levels),
    )


def _fill_constants(model: nn.Module) -> None:
    """Computes the buffers that follow from the architecture; no file holds them and `meta` leaves them empty."""
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.relative_position_index = get_relative_position_index(*module.window_size)
        elif isinstance(module, BertEmbeddings):
            count = module.position_embeddings.num_embeddings
            module.position_ids = torch.arange(count)[None]
            module.token_type_ids = torch.zeros(1, count, dtype=torch.long)

"""Maps the names of GLIP's tensors between three layouts, by one table.

`microsoft` is the original, `mmdet` its port in MMDetection, `native` is ours: named like the modules in `glip.model`.
Source: the two code bases, see `docs/checkpoints.md`, "Tensor names". Knows names only; `convert` knows the values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from glip.errors import InputError
from glip.model.config import GLIPConfig

Layout = Literal["microsoft", "mmdet", "native"]


class Names(NamedTuple):
    """The name of a tensor, or the common beginning of several names, in the three layouts."""

    native: str
    microsoft: str
    mmdet: str


_BERT_LAYER = tuple(
    (name,) * 3
    for name in (
        "attention.self.query.*",
        "attention.self.key.*",
        "attention.self.value.*",
        "attention.output.dense.*",
        "attention.output.LayerNorm.*",
        "intermediate.dense.*",
        "output.dense.*",
        "output.LayerNorm.*",
    )
)

# Part -> (beginning of its names, their endings). "*" stands for weight and bias; `_numbers` fills the braces.
TABLE: dict[str, tuple[Names, tuple[tuple[str, str, str], ...]]] = {
    "patches": (
        Names("backbone.patch_embed.", "backbone.body.patch_embed.", "backbone.patch_embed."),
        (("proj.*", "proj.*", "projection.*"), ("norm.*",) * 3),
    ),
    "swin block": (
        Names(
            "backbone.stages.{s}.blocks.{b}.", "backbone.body.layers.{s}.blocks.{b}.", "backbone.stages.{s}.blocks.{b}."
        ),
        (
            ("norm1.*",) * 3,
            ("attn.qkv.*", "attn.qkv.*", "attn.w_msa.qkv.*"),
            ("attn.proj.*", "attn.proj.*", "attn.w_msa.proj.*"),
            (
                "attn.relative_position_bias_table",
                "attn.relative_position_bias_table",
                "attn.w_msa.relative_position_bias_table",
            ),
            ("norm2.*",) * 3,
            ("mlp.fc1.*", "mlp.fc1.*", "ffn.layers.0.0.*"),
            ("mlp.fc2.*", "mlp.fc2.*", "ffn.layers.1.*"),
        ),
    ),
    "patch merging": (
        Names(
            "backbone.stages.{s}.downsample.", "backbone.body.layers.{s}.downsample.", "backbone.stages.{s}.downsample."
        ),
        (("norm.*",) * 3, ("reduction.weight",) * 3),
    ),
    # Maps C3, C4, C5. The original counts norms from 0 and pyramid layers from 1, and has neither's first.
    "map": (
        Names("", "backbone.", ""),
        (
            ("backbone.norms.{l}.*", "body.norm{norm}.*", "backbone.norm{norm}.*"),
            ("neck.lateral.{l}.*", "fpn.fpn_inner{layer}.*", "neck.lateral_convs.{l}.conv.*"),
            ("neck.output.{l}.*", "fpn.fpn_layer{layer}.*", "neck.fpn_convs.{l}.conv.*"),
        ),
    ),
    "coarse maps": (
        Names("neck.", "backbone.fpn.top_blocks.", "neck.fpn_convs."),
        (("p6.*", "p6.*", "3.conv.*"), ("p7.*", "p7.*", "4.conv.*")),
    ),
    "embeddings": (
        Names(
            "text_encoder.bert.embeddings.",
            "language_backbone.body.model.embeddings.",
            "language_model.language_backbone.body.model.embeddings.",
        ),
        (
            ("word_embeddings.weight",) * 3,
            ("position_embeddings.weight",) * 3,
            ("token_type_embeddings.weight",) * 3,
            ("LayerNorm.*",) * 3,
        ),
    ),
    "text encoder layer": (
        Names(
            "text_encoder.bert.encoder.layer.{n}.",
            "language_backbone.body.model.encoder.layer.{n}.",
            "language_model.language_backbone.body.model.encoder.layer.{n}.",
        ),
        _BERT_LAYER,
    ),
    "fusion": (
        Names(
            "fusion.blocks.{i}.fuse.",
            "rpn.head.dyhead_tower.{fuse}.b_attn.",
            "bbox_head.head.dyhead_tower.{fuse}.b_attn.",
        ),
        (
            ("norm_image.*", "layer_norm_v.*", "layer_norm_v.*"),
            ("norm_text.*", "layer_norm_l.*", "layer_norm_l.*"),
            ("gamma_image", "gamma_v", "gamma_v"),
            ("gamma_text", "gamma_l", "gamma_l"),
            ("query.*", "attn.v_proj.*", "attn.v_proj.*"),
            ("key.*", "attn.l_proj.*", "attn.l_proj.*"),
            ("image_value.*", "attn.values_v_proj.*", "attn.values_v_proj.*"),
            ("text_value.*", "attn.values_l_proj.*", "attn.values_l_proj.*"),
            ("image_out.*", "attn.out_v_proj.*", "attn.out_v_proj.*"),
            ("text_out.*", "attn.out_l_proj.*", "attn.out_l_proj.*"),
        ),
    ),
    "fusion text layer": (
        Names("fusion.blocks.{i}.text.", "rpn.head.dyhead_tower.{text}.", "bbox_head.head.dyhead_tower.{text}."),
        _BERT_LAYER,
    ),
    "dyhead": (
        Names("fusion.blocks.{i}.dyhead.", "rpn.head.dyhead_tower.{dyhead}.", "bbox_head.head.dyhead_tower.{dyhead}."),
        (
            ("convs.0.conv.*", "DyConv.0.conv.*", "dyconvs.0.conv.*"),
            ("convs.0.norm.*", "DyConv.0.bn.*", "dyconvs.0.bn.*"),
            ("convs.1.conv.*", "DyConv.1.conv.*", "dyconvs.1.conv.*"),
            ("convs.1.norm.*", "DyConv.1.bn.*", "dyconvs.1.bn.*"),
            ("convs.2.conv.*", "DyConv.2.conv.*", "dyconvs.2.conv.*"),
            ("convs.2.norm.*", "DyConv.2.bn.*", "dyconvs.2.bn.*"),
            ("scale_attention.*", "AttnConv.1.*", "attnconv.1.*"),
            ("offset.*",) * 3,
            ("relu.reduce.*", "relu.fc.0.*", "relu.fc.0.*"),
            ("relu.expand.*", "relu.fc.2.*", "relu.fc.2.*"),
        ),
    ),
    "head": (
        Names("head.", "rpn.head.", "bbox_head.head."),
        (
            ("box.*", "bbox_pred.*", "bbox_pred.*"),
            ("centerness.*",) * 3,
            ("text.*", "dot_product_projection_text.*", "dot_product_projection_text.*"),
            ("log_scale",) * 3,
            ("bias_text", "bias_lang", "bias_lang"),
            ("bias", "bias0", "bias0"),
        ),
    ),
}


class PartCounts(NamedTuple):
    """Number of repetitions of each part, from which all names follow.

    `depths` is empty for a convolutional backbone. Only the native layout has one, so its tensors need no table.
    """

    depths: tuple[int, ...]
    text_layers: int
    blocks: int
    deep_fusion: bool

    @classmethod
    def of_config(cls, config: GLIPConfig) -> PartCounts:
        """Returns the counts of an architecture."""
        depths = config.swin.depths if config.swin else ()
        return cls(depths, config.text.num_layers, config.num_fusion_blocks, config.deep_fusion)

    @classmethod
    def of_names(cls, names: Iterable[str], layout: Layout) -> PartCounts:
        """Returns the counts that follow from the numbers in a checkpoint's names.

        Raises:
            InputError: a part has no tensors.
        """
        text = "\n".join(names)
        conv = layout == "native" and re.search(r"^backbone\.stem\.", text, re.M) is not None
        depths = [] if conv else [0, 0, 0, 0]
        for stage, block in re.findall(r"^backbone\.(?:body\.layers|stages)\.([0-3])\.blocks\.(\d{1,3})\.", text, re.M):
            depths[int(stage)] = max(depths[int(stage)], int(block) + 1)
        layers = [int(n) for n in re.findall(r"^(?:language|text)_\S+?\.encoder\.layer\.(\d{1,3})\.", text, re.M)]
        tower = [int(n) for n in re.findall(r"^(?:\S+\.dyhead_tower|fusion\.blocks)\.(\d{1,3})\.", text, re.M)]
        for part, found in (("backbone", min(depths, default=1)), ("text encoder", layers), ("head tower", tower)):
            if not found:
                raise InputError(
                    f"The checkpoint lacks tensors of its {part}; the file is incomplete. Fetch or make it again."
                )
        fusion = re.search(r"^\S+\.(?:b_attn|fuse)\.", text, re.M) is not None
        per_block = 3 if fusion and layout != "native" else 1
        return cls(tuple(depths), max(layers) + 1, max(tower) // per_block + 1, fusion)


def spell(counts: PartCounts) -> list[Names]:
    """Returns the names of all tensors but the head's five scales, which `convert` joins to one tensor."""
    return [
        Names(*((begin + end).replace("*", kind).format(**numbers) for begin, end in zip(prefix, ending, strict=True)))
        for part, (prefix, endings) in TABLE.items()
        for numbers in _numbers(part, counts)
        for ending in endings
        if counts.depths or not ending[0].startswith("backbone.norms.")
        for kind in (("weight", "bias") if ending[0].endswith("*") else ("",))
    ]


def _numbers(part: str, counts: PartCounts) -> Iterator[dict[str, int]]:
    if part == "swin block":
        yield from ({"s": stage, "b": block} for stage, depth in enumerate(counts.depths) for block in range(depth))
    elif part == "patch merging":
        yield from ({"s": stage} for stage in range(3) if counts.depths)
    elif part == "patches":
        yield from [{}] if counts.depths else []
    elif part == "map":
        yield from ({"l": level, "norm": level + 1, "layer": level + 2} for level in range(3))
    elif part == "text encoder layer":
        yield from ({"n": layer} for layer in range(counts.text_layers))
    elif part in ("fusion", "fusion text layer", "dyhead"):
        # The other layouts number a block's three parts consecutively: fusion, text layer, DyHead block.
        if counts.deep_fusion:
            yield from ({"i": i, "fuse": 3 * i, "text": 3 * i + 1, "dyhead": 3 * i + 2} for i in range(counts.blocks))
        elif part == "dyhead":
            yield from ({"i": i, "dyhead": i} for i in range(counts.blocks))
    else:
        yield {}

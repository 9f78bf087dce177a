"""Converts checkpoints between three layouts: `microsoft` (the original), `mmdet`, `native` (ours).

Names come from the table in `tensor_names`; here are the few values that differ. Pure functions on state dicts; knows
nothing of files. Source: the two code bases, see `docs/checkpoints.md`, "Conversion".
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from glip.errors import InputError
from glip.model.config import (
    GLIP_L,
    GLIP_NANO,
    GLIP_NANO_SWIN,
    GLIP_T,
    GLIP_T_A,
    ConvConfig,
    GLIPConfig,
    SwinConfig,
    TextConfig,
)
from glip.prompts import MAX_TOKENS
from glip.weights.tensor_names import Layout, PartCounts, spell

State = dict[str, Tensor]

# Index in mmdet's order of each of the original's four neighbours. The permutation is its own inverse.
_NEIGHBOURS = (0, 2, 1, 3)
_HEAD_DIM = 64
_CLASS_LOGITS = 80

# Five learned numbers, one per level: scalars in files that mmdet trained, vectors of one value in the original's.
_SCALES: Mapping[Layout, str] = {"microsoft": "rpn.head.scales.{}.scale", "mmdet": "bbox_head.head.scales.{}.scale"}
# The result of prompt tuning, which is added to the text features; all other tensors are those of the untuned model.
_PROMPT: Mapping[Layout, str] = {"microsoft": "rpn.tunable_linear.weight", "mmdet": "bbox_head.tunable_linear.weight"}
_ANCHORS = "rpn.anchor_generator.cell_anchors.{}"
# Tensors that prediction never reads: the unused classifier, BERT's pooler and counter, the contrastive loss's resizer.
_UNUSED = re.compile(
    r"rpn\.head\.cls_logits\.(weight|bias)$|(language_model\.)?language_backbone\.body\.model\.(pooler\.|"
    r"embeddings\.(position_ids|token_type_ids)$)|\S*resizer"
)


@dataclass(frozen=True)
class Conversion:
    """A checkpoint in native names, with everything needed to write it in its source's layout again.

    Attributes:
        config: the architecture, inferred from names and shapes.
        state: native names to tensors; values equal the source's bit for bit.
        layout: layout of the source.
        prompt: (T, D) result of prompt tuning, if the source holds one.
        unused: tensors of the source that the native layout does not have, by the source's names.
        constants: names of source tensors that follow from the architecture; their values were checked.
    """

    config: GLIPConfig
    state: State
    layout: Layout
    prompt: Tensor | None = None
    unused: State = field(default_factory=dict)
    constants: tuple[str, ...] = ()


def unwrap(content: object, *, ema: bool = False) -> tuple[State, list[str]]:
    """Extracts the state dict from the content of a checkpoint file.

    Args:
        content: a state dict, or a dict with one under `model` or `state_dict`; `module.` before the names is removed.
        ema: whether to take the averaged weights (`model_ema`).

    Returns:
        Names to tensors, and sentences about what was not taken.

    Raises:
        InputError: there is no state dict in it, or `ema` is set and there are no averaged weights.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"The file holds a {type(content).__name__}; a checkpoint is a dict of tensors.")
    wanted = ("model_ema",) if ema else ("model", "state_dict")
    key = next((key for key in wanted if isinstance(content.get(key), Mapping)), None)
    if ema and key is None:
        raise InputError(f"The file holds no averaged weights (model_ema), only {some(content)}. Leave out `ema`.")
    state = content if key is None else content[key]
    aside = [str(k) for k, v in state.items() if not isinstance(v, Tensor)]
    aside += [str(k) for k in content if k != key] if key else []
    notes = []
    if "model_ema" in aside:
        notes.append("the file also holds averaged weights (model_ema), which were not taken; `ema` takes them")
        aside.remove("model_ema")
    if aside:
        notes.append(f"not taken: {some(aside, limit=8)}")
    named = [(re.sub(r"^(module\.)+", "", str(k)), v) for k, v in state.items() if isinstance(v, Tensor)]
    tensors = dict(named)
    for name, value in named:
        # Such a tensor claims more numbers than its file holds, and would fill the memory when it is copied.
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(
                f"The tensor {name[:60]!r} of shape {tuple(value.shape)} is sparse or repeats its numbers. Save it "
                f"again with plain tensors."
            )
    if not tensors:
        raise InputError(f"The file holds no named tensors, only {some(content)}.")
    if len(tensors) < len(named):
        raise InputError(
            "The file holds a tensor twice, with and without 'module.' before its name; keep one of the two."
        )
    return tensors, notes


def detect_layout(names: Iterable[str]) -> Layout:
    """Returns the layout that the names belong to. Shapes tell nothing: they are equal where the channel order differs.

    Raises:
        InputError: the names are not those of a GLIP checkpoint.
    """
    names = list(names)
    signs: Mapping[Layout, str] = {
        "microsoft": r"(backbone\.(body|fpn)|language_backbone|rpn)\.",
        "mmdet": r"(language_model|bbox_head)\.|neck\.(lateral|fpn)_convs\.",
        "native": r"(text_encoder|fusion|head)\.",
    }
    found = [layout for layout, sign in signs.items() if any(re.match(sign, name) for name in names)]
    if len(found) == 1:
        return found[0]
    what = f"mixes the layouts {' and '.join(found)}" if found else "is not a GLIP checkpoint"
    raise InputError(f"The file {what}. Its tensors are called {some(names)}. See `glip models inspect`.")


def to_native(source: Mapping[str, Tensor]) -> Conversion:
    """Converts a checkpoint of any layout to native names.

    Args:
        source: names to tensors, as `unwrap` returns them.

    Raises:
        InputError: a tensor is missing, unknown or of another shape, or a stored constant differs from GLIP's.
    """
    layout = detect_layout(source)
    rest = dict(source)
    counts = PartCounts.of_names(rest, layout)
    names = {getattr(row, layout): row.native for row in spell(counts)}
    scales = [] if layout == "native" else [_SCALES[layout].format(level) for level in range(5)]
    required = [*names, *(scales or ["head.scales"])]
    if missing := [name for name in required if name not in rest]:
        raise InputError(f"The {layout} checkpoint lacks {some(missing)} ({len(missing)} in all).")
    state = {native: _from_mmdet(native, rest.pop(name), layout) for name, native in names.items()}
    state["head.scales"] = _join([rest.pop(name) for name in scales]) if scales else rest.pop("head.scales")
    if not counts.depths:
        state |= {name: rest.pop(name) for name in list(rest) if name.startswith("backbone.")}
    try:
        config = infer_config(state, counts)
    except (IndexError, ValueError) as error:
        raise InputError(f"The {layout} checkpoint has tensors of impossible shapes: {error}.") from error
    prompt = rest.pop(_PROMPT.get(layout, ""), None)
    if prompt is not None:
        check_prompt(tuple(prompt.shape), config)
    constants = _checked_constants(rest, config, layout)
    unused = {name: rest.pop(name) for name in list(rest) if layout != "native" and _UNUSED.match(name)}
    if rest:
        raise InputError(f"The {layout} checkpoint has unknown tensors: {some(rest)} ({len(rest)} in all).")
    check_shapes({name: tuple(value.shape) for name, value in state.items()}, config)
    return Conversion(config, state, layout, prompt, unused, constants)


def from_native(checkpoint: Conversion, to: Layout) -> tuple[State, tuple[str, ...]]:
    """Converts a checkpoint to another layout.

    Returns:
        Names to tensors, and the names of tensors that had to be made because native checkpoints lack them.

    Raises:
        InputError: the layout has no convolutional backbone.
    """
    if to == "native":
        return dict(checkpoint.state), ()
    config = checkpoint.config
    if config.swin is None:
        raise InputError(f"The layout {to} has no convolutional backbone; this model can only be written as native.")
    result = {
        getattr(row, to): _to_mmdet(row.native, checkpoint.state[row.native], to)
        for row in spell(PartCounts.of_config(config))
    }
    for level, scale in enumerate(checkpoint.state["head.scales"].unbind()):
        result[_SCALES[to].format(level)] = scale.reshape(() if to == "mmdet" else 1).clone()
    if checkpoint.prompt is not None:
        result[_PROMPT[to]] = checkpoint.prompt
    made = _constants(config, to)
    if to == "microsoft":
        kept = checkpoint.unused if checkpoint.layout == "microsoft" else {}
        result |= kept
        made |= {name: value for name, value in _fresh_classifier(config.channels).items() if name not in kept}
    return result | made, tuple(made)


def infer_config(state: Mapping[str, Tensor], counts: PartCounts) -> GLIPConfig:
    """Returns the architecture of a native state dict. Heads do not show: BERT's are 64 wide, the fusion has 8."""
    swin = _infer_swin(state, counts) if counts.depths else None
    vocab_size, hidden = state["text_encoder.bert.embeddings.word_embeddings.weight"].shape
    text = TextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_layers=counts.text_layers,
        num_heads=max(hidden // _HEAD_DIM, 1),
        intermediate_size=state["text_encoder.bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_positions=state["text_encoder.bert.embeddings.position_embeddings.weight"].shape[0],
    )
    fusion = state.get("fusion.blocks.0.fuse.query.weight")
    config = GLIPConfig(
        swin=swin,
        conv=None if swin else ConvConfig(),
        text=text,
        channels=state["neck.p6.weight"].shape[0],
        num_fusion_blocks=counts.blocks,
        deep_fusion=counts.deep_fusion,
        fusion_dim=GLIPConfig.fusion_dim if fusion is None else fusion.shape[0],
    )
    # Drop path and heads do not show in the weights; they are taken from the known architecture with the same tensors.
    for known in (GLIP_T_A, GLIP_T, GLIP_L, GLIP_NANO, GLIP_NANO_SWIN):
        if known in (GLIP_NANO, GLIP_NANO_SWIN):
            known = replace(known, text=replace(known.text, vocab_size=vocab_size))
        if _with_traces_of(known, config) == known:
            return known
    return config


def _infer_swin(state: Mapping[str, Tensor], counts: PartCounts) -> SwinConfig:
    bias_tables = [
        state[f"backbone.stages.{stage}.blocks.0.attn.relative_position_bias_table"].shape for stage in range(4)
    ]
    return SwinConfig(
        embed_dim=state["backbone.patch_embed.proj.weight"].shape[0],
        depths=counts.depths,  # type: ignore[arg-type]
        num_heads=tuple(shape[1] for shape in bias_tables),  # type: ignore[arg-type]
        window_size=(math.isqrt(bias_tables[0][0]) + 1) // 2,
    )


def _with_traces_of(known: GLIPConfig, config: GLIPConfig) -> GLIPConfig:
    """Returns the configuration with the fields of a known one that do not show in the weights."""
    swin = config.swin
    if swin and known.swin:
        swin = replace(swin, drop_path=known.swin.drop_path)
    text = replace(config.text, num_heads=known.text.num_heads)
    return replace(config, swin=swin, text=text, fusion_heads=known.fusion_heads, imgsz=known.imgsz, conf=known.conf)


def check_shapes(shapes: Mapping[str, tuple[int, ...]], config: GLIPConfig) -> None:
    """Compares the names and shapes of a checkpoint with those of the network.

    Raises:
        InputError: a tensor is missing, unknown or of another shape; the message names it.
    """
    expected = expected_shapes(config)
    if missing := sorted(expected.keys() - shapes.keys()):
        raise InputError(f"The checkpoint lacks {some(missing)} ({len(missing)} in all).")
    if unknown := sorted(shapes.keys() - expected.keys()):
        raise InputError(f"The checkpoint has unknown tensors: {some(unknown)} ({len(unknown)} in all).")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise InputError(f"Tensor {name} has shape {shape}; this architecture needs {expected[name]}.")


def check_prompt(shape: tuple[int, ...], config: GLIPConfig) -> None:
    """Refuses a tuned prompt of another shape than (rows, text features).

    Raises:
        InputError: its shape is another one.
    """
    if len(shape) != 2 or shape[1] != config.text.hidden_size or shape[0] < MAX_TOKENS:
        raise InputError(
            f"The tuned prompt has shape {shape}; it must be (rows, {config.text.hidden_size}) with at least "
            f"{MAX_TOKENS} rows, one per token of a prompt."
        )


@lru_cache(maxsize=4)
def expected_shapes(config: GLIPConfig) -> Mapping[str, tuple[int, ...]]:
    """Returns names and shapes of the network's tensors, without allocating them.

    Raises:
        InputError: the architecture is impossible.
    """
    from glip.model.glip import build_glip

    try:
        with torch.device("meta"):
            model = build_glip(config)
    except (ValueError, RuntimeError, ArithmeticError, IndexError, TypeError, AssertionError) as error:
        raise InputError(f"No network can be built from this architecture: {error}") from error
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def some(names: Collection[str] | Mapping[str, object], limit: int = 3) -> str:
    """Returns the first few names, for a sentence."""
    shown = [str(name) for name, _ in zip(names, range(limit), strict=False)]
    return ", ".join(shown) + (", …" if len(names) > limit else "")


def _join(scales: Collection[Tensor]) -> Tensor:
    """Joins five single numbers, () or (1,), to (5,)."""
    if bad := [tuple(scale.shape) for scale in scales if scale.numel() != 1]:
        raise InputError(f"A level's scale has shape {bad[0]}; it must be a single number, () or (1,).")
    return torch.cat([scale.reshape(1) for scale in scales])


def _from_mmdet(native: str, value: Tensor, layout: Layout) -> Tensor:
    """Reorders patch merging: the neighbour varies fastest in mmdet's 4C channels, slowest in ours."""
    if layout != "mmdet" or ".downsample." not in native:
        return value
    by_neighbour = value.unflatten(-1, (-1, 4)).transpose(-1, -2)
    return by_neighbour[..., _NEIGHBOURS, :].flatten(-2).contiguous()


def _to_mmdet(native: str, value: Tensor, layout: Layout) -> Tensor:
    if layout != "mmdet" or ".downsample." not in native:
        return value
    by_neighbour = value.unflatten(-1, (4, -1))[..., _NEIGHBOURS, :]
    return by_neighbour.transpose(-1, -2).flatten(-2).contiguous()


def _constants(config: GLIPConfig, layout: Layout) -> State:
    """Returns the buffers that a layout stores although they follow from the architecture."""
    if layout == "native":
        return {}
    assert config.swin is not None, "only Swin has other layouts"
    index = _position_index(config.swin.window_size)
    tables = [getattr(n, layout) for n in spell(PartCounts.of_config(config)) if n.native.endswith("_bias_table")]
    result = {name.replace("position_bias_table", "position_index"): index.clone() for name in tables}
    if layout == "microsoft":
        for level in range(config.num_levels):
            stride = 8 * 2**level
            middle, half = (stride - 1) / 2, (8 * stride - 1) / 2
            result[_ANCHORS.format(level)] = torch.tensor([[middle - half] * 2 + [middle + half] * 2])
    return result


def _checked_constants(rest: State, config: GLIPConfig, layout: Layout) -> tuple[str, ...]:
    """Removes the constants from `rest` and returns their names; refuses values of another network."""
    names = []
    for name, expected in _constants(config, layout).items():
        stored = rest.pop(name, None)
        if stored is None:
            continue
        if stored.shape != expected.shape or not torch.equal(stored.to(expected.dtype), expected):
            raise InputError(
                f"The stored constant {name} differs from GLIP's; the checkpoint belongs to another network."
            )
        names.append(name)
    return tuple(names)


def _position_index(window: int) -> Tensor:
    """Returns (W², W²) row of the bias table for each pair of cells of a window: by their distance in y, then x."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    down, right = y[:, None] - y, x[:, None] - x
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def _fresh_classifier(channels: int) -> State:
    """Returns initial values, as in the original, of a layer that the original builds and never reads."""
    weight = torch.empty(_CLASS_LOGITS, channels, 1, 1)
    torch.nn.init.normal_(weight, std=0.01, generator=torch.Generator().manual_seed(0))
    bias = torch.full((_CLASS_LOGITS,), -math.log(99.0))
    return {"rpn.head.cls_logits.weight": weight, "rpn.head.cls_logits.bias": bias}

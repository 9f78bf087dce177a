"""Checkpoints between layouts: every published key list, every value."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glip.errors import InputError
from glip.model.config import GLIP_L, GLIP_NANO, GLIP_NANO_SWIN, GLIP_T, GLIP_T_A, ConvConfig, GLIPConfig
from glip.weights.convert import (
    Conversion,
    State,
    check_shapes,
    detect_layout,
    expected_shapes,
    from_native,
    infer_config,
    to_native,
    unwrap,
)
from glip.weights.tensor_names import Layout, PartCounts
from tests.golden.weights import make_state, make_tensor
from tests.weights.conftest import CONFIG, SWIN_OF_CONFIG

GOLDEN = Path(__file__).parents[1] / "golden"
LISTS: dict[str, tuple[Layout, GLIPConfig]] = {
    "A": ("microsoft", GLIP_T_A),
    "B": ("microsoft", GLIP_T),
    "T": ("microsoft", GLIP_T),
    "L": ("microsoft", GLIP_L),
    "mmdet_tiny_a": ("mmdet", GLIP_T_A),
    "mmdet_tiny_b": ("mmdet", GLIP_T),
    "mmdet_tiny_c": ("mmdet", GLIP_T),
    "mmdet_tiny": ("mmdet", GLIP_T),
    "mmdet_large": ("mmdet", GLIP_L),
}
CONSTANTS = ("relative_position_index", "position_ids")


def key_list(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file."""
    return {key: tuple(shape) for key, shape, _ in json.loads((GOLDEN / f"names_{name}.json").read_text())}


def weightless(shapes: dict[str, tuple[int, ...]]) -> State:
    """A state dict of these names and shapes that takes next to no memory: zeros, but for the constants."""
    return {
        name: make_tensor(name, shape)
        if name.endswith(CONSTANTS) or "cell_anchors" in name
        else torch.tensor(0.0).expand(shape)
        for name, shape in shapes.items()
    }


def shapes_of(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def assert_same(found: State, expected: State) -> None:
    """Equal names, shapes, types and bits."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name


# Published key lists


@pytest.mark.parametrize("name", LISTS)
def test_every_published_tensor_has_its_place_in_the_network(name: str) -> None:
    layout, config = LISTS[name]
    conversion = to_native(weightless(key_list(name)))
    assert conversion.layout == layout
    assert conversion.config == config
    assert shapes_of(conversion.state) == dict(expected_shapes(config))


@pytest.mark.parametrize("name", LISTS)
def test_writing_back_gives_the_published_list_of_names_and_shapes(name: str) -> None:
    layout, _ = LISTS[name]
    conversion = to_native(weightless(key_list(name)))
    written, _ = from_native(conversion, layout)
    assert shapes_of(written) == key_list(name)


@pytest.mark.parametrize(("name", "other"), [("A", "mmdet_tiny_a"), ("T", "mmdet_tiny"), ("L", "mmdet_large")])
def test_one_layouts_list_becomes_the_others(name: str, other: str) -> None:
    to_mmdet, _ = from_native(to_native(weightless(key_list(name))), "mmdet")
    assert shapes_of(to_mmdet) == key_list(other)
    to_microsoft, _ = from_native(to_native(weightless(key_list(other))), "microsoft")
    lost = {"language_backbone.body.model.embeddings.position_ids"}
    assert shapes_of(to_microsoft) == {k: v for k, v in key_list(name).items() if k not in lost}


# Values


@pytest.mark.parametrize("layout", ["microsoft", "mmdet"])
@pytest.mark.parametrize("deep_fusion", [True, False])
def test_there_and_back_changes_no_bit(tiny: Conversion, layout: Layout, deep_fusion: bool) -> None:
    if not deep_fusion:
        state = {k: v for k, v in tiny.state.items() if ".fuse." not in k and not k.startswith("fusion.blocks.0.text")}
        state = {k: v for k, v in state.items() if ".text." not in k or not k.startswith("fusion")}
        tiny = Conversion(replace(CONFIG, deep_fusion=False, fusion_dim=2048), state, "native")
    written, _ = from_native(tiny, layout)
    back = to_native(written)
    assert back.config == tiny.config
    assert back.layout == layout
    assert_same(back.state, tiny.state)


def test_half_precision_stays_half_precision(tiny: Conversion) -> None:
    half = {name: value.half() for name, value in tiny.state.items()}
    back = to_native(from_native(replace(tiny, state=half), "mmdet")[0])
    assert_same(back.state, half)


def test_patch_merging_follows_the_published_rule(tiny: Conversion) -> None:
    mmdet, _ = from_native(tiny, "mmdet")
    neighbour = (0, 2, 1, 3)
    for stage in range(3):
        for ending in ("downsample.norm.weight", "downsample.norm.bias", "downsample.reduction.weight"):
            old = tiny.state[f"backbone.stages.{stage}.{ending}"]
            new = mmdet[f"backbone.stages.{stage}.{ending}"]
            channels = old.shape[-1] // 4
            for c in range(channels):
                for k in range(4):
                    assert torch.equal(new[..., 4 * c + k], old[..., neighbour[k] * channels + c])


def test_patch_merging_computes_the_same_in_both_orders(tiny: Conversion) -> None:
    mmdet, _ = from_native(tiny, "mmdet")
    x = torch.randn(1, SWIN_OF_CONFIG.embed_dim, 6, 4, generator=torch.Generator().manual_seed(0))
    ours = torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 1::2]], dim=1)
    theirs = F.unfold(x, 2, stride=2)

    def merge(state: State, rows: Tensor) -> Tensor:
        named = {ending: state[f"backbone.stages.0.downsample.{ending}"] for ending in ("norm.weight", "norm.bias")}
        normed = F.layer_norm(rows, rows.shape[-1:], named["norm.weight"], named["norm.bias"])
        return normed @ state["backbone.stages.0.downsample.reduction.weight"].t()

    expected = merge(tiny.state, ours.flatten(2).transpose(1, 2))
    torch.testing.assert_close(merge(mmdet, theirs.transpose(1, 2)), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(merge(tiny.state, theirs.transpose(1, 2)), expected, atol=0.1)


def test_all_else_is_only_renamed(tiny: Conversion) -> None:
    microsoft, _ = from_native(tiny, "microsoft")
    same = {
        "backbone.stages.2.blocks.1.attn.qkv.weight": "backbone.body.layers.2.blocks.1.attn.qkv.weight",
        "backbone.stages.1.downsample.reduction.weight": "backbone.body.layers.1.downsample.reduction.weight",
        "backbone.norms.0.weight": "backbone.body.norm1.weight",
        "neck.output.2.bias": "backbone.fpn.fpn_layer4.bias",
        "neck.p7.weight": "backbone.fpn.top_blocks.p7.weight",
        "fusion.blocks.1.fuse.query.weight": "rpn.head.dyhead_tower.3.b_attn.attn.v_proj.weight",
        "fusion.blocks.1.fuse.text_value.bias": "rpn.head.dyhead_tower.3.b_attn.attn.values_l_proj.bias",
        "fusion.blocks.1.text.output.dense.bias": "rpn.head.dyhead_tower.4.output.dense.bias",
        "fusion.blocks.1.dyhead.relu.expand.weight": "rpn.head.dyhead_tower.5.relu.fc.2.weight",
        "fusion.blocks.1.dyhead.convs.2.norm.bias": "rpn.head.dyhead_tower.5.DyConv.2.bn.bias",
        "head.bias": "rpn.head.bias0",
    }
    for native, name in same.items():
        assert torch.equal(tiny.state[native], microsoft[name]), native


@pytest.mark.parametrize("layout", ["microsoft", "mmdet"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_levels_scale_may_be_a_scalar_or_a_vector_of_one(
    tiny: Conversion, layout: Layout, shape: tuple[int, ...]
) -> None:
    written, _ = from_native(tiny, layout)
    written = {name: value.reshape(shape) if name.endswith(".scale") else value for name, value in written.items()}
    assert torch.equal(to_native(written).state["head.scales"], tiny.state["head.scales"])


def test_a_levels_scale_of_another_shape_is_refused(tiny: Conversion) -> None:
    written, _ = from_native(tiny, "mmdet")
    written["bbox_head.head.scales.3.scale"] = torch.ones(2)
    with pytest.raises(InputError, match=r"\(2,\)"):
        to_native(written)


@pytest.mark.full
@pytest.mark.parametrize("variant", ["A", "T"])
def test_full_size_weights_go_round_without_changing_a_bit(variant: str) -> None:
    source = make_state(variant)
    conversion = to_native(source)
    assert_same(from_native(conversion, "microsoft")[0], source)
    via_mmdet = to_native(from_native(conversion, "mmdet")[0])
    assert_same(via_mmdet.state, conversion.state)


# What one side lacks


def test_constants_are_made_anew_with_the_values_the_original_has(tiny: Conversion) -> None:
    microsoft, made = from_native(tiny, "microsoft")
    for name in made:
        if "cls_logits" not in name:
            assert torch.equal(microsoft[name], make_tensor(name, microsoft[name].shape)), name
    assert sum(name.endswith("relative_position_index") for name in made) == 5
    assert [name for name in made if "anchors" in name] == [f"rpn.anchor_generator.cell_anchors.{i}" for i in range(5)]


@pytest.mark.parametrize("window", [7, 12])
def test_a_windows_position_index_is_the_originals(tiny_state: State, window: int) -> None:
    state = dict(tiny_state)
    for name, value in tiny_state.items():
        if name.endswith("_bias_table"):
            state[name] = torch.zeros((2 * window - 1) ** 2, value.shape[1])
    config = replace(CONFIG, swin=replace(SWIN_OF_CONFIG, window_size=window))
    written, _ = from_native(Conversion(config, state, "native"), "mmdet")
    name = "backbone.stages.3.blocks.0.attn.w_msa.relative_position_index"
    assert torch.equal(written[name], make_tensor(name, (window**2, window**2)))
    read = to_native(written).config.swin
    assert read is not None
    assert read.window_size == window


def test_the_unused_classifier_is_made_anew_as_the_original_starts_it(tiny: Conversion) -> None:
    microsoft, made = from_native(tiny, "microsoft")
    weight, bias = microsoft["rpn.head.cls_logits.weight"], microsoft["rpn.head.cls_logits.bias"]
    assert {"rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"} < set(made)
    assert weight.shape == (80, CONFIG.channels, 1, 1)
    assert weight.std() == pytest.approx(0.01, rel=0.05)
    assert bias.sigmoid().tolist() == pytest.approx([0.01] * 80)
    assert torch.equal(weight, from_native(tiny, "microsoft")[0]["rpn.head.cls_logits.weight"])


def test_a_classifier_that_the_source_had_is_kept(tiny: Conversion) -> None:
    microsoft, _ = from_native(tiny, "microsoft")
    microsoft["rpn.head.cls_logits.weight"] += 1
    microsoft["language_backbone.body.model.embeddings.position_ids"] = torch.arange(512)[None]
    again, made = from_native(to_native(microsoft), "microsoft")
    assert_same(again, microsoft)
    assert not any("cls_logits" in name for name in made)


UNUSED = {
    "rpn.head.cls_logits.weight": (80, 64, 1, 1),
    "language_backbone.body.model.embeddings.position_ids": (1, 512),
    "language_backbone.body.model.pooler.dense.weight": (128, 128),
    "rpn.head.tunable.resizer.fc.weight": (2, 2),
}


def test_what_detection_never_reads_is_left_out_and_named(tiny: Conversion) -> None:
    microsoft, _ = from_native(tiny, "microsoft")
    microsoft |= {name: torch.zeros(shape) for name, shape in UNUSED.items()}
    conversion = to_native(microsoft)
    assert set(conversion.unused) == {*UNUSED, "rpn.head.cls_logits.bias"}
    assert_same(conversion.state, tiny.state)


def test_the_counter_of_old_transformers_may_be_in_an_mmdet_file(tiny: Conversion) -> None:
    mmdet, _ = from_native(tiny, "mmdet")
    name = "language_model.language_backbone.body.model.embeddings.position_ids"
    assert set(to_native({**mmdet, name: torch.arange(512)[None]}).unused) == {name}


@pytest.mark.parametrize(
    "name", ["backbone.body.layers.2.blocks.1.attn.relative_position_index", "rpn.anchor_generator.cell_anchors.3"]
)
def test_a_constant_with_other_values_is_refused_by_name(tiny: Conversion, name: str) -> None:
    microsoft, _ = from_native(tiny, "microsoft")
    microsoft[name] = microsoft[name] + 1
    with pytest.raises(InputError, match=name):
        to_native(microsoft)


def test_constants_may_be_absent(tiny: Conversion) -> None:
    mmdet, made = from_native(tiny, "mmdet")
    without = {name: value for name, value in mmdet.items() if name not in made}
    assert_same(to_native(without).state, tiny.state)


@pytest.mark.parametrize(
    ("layout", "name"), [("microsoft", "rpn.tunable_linear.weight"), ("mmdet", "bbox_head.tunable_linear.weight")]
)
def test_a_tuned_prompt_is_kept_apart_and_put_back(tiny: Conversion, layout: Layout, name: str) -> None:
    prompt = torch.randn(1000, 128, generator=torch.Generator().manual_seed(1))
    written, _ = from_native(replace(tiny, prompt=prompt), layout)
    assert torch.equal(written[name], prompt)
    back = to_native(written)
    assert back.prompt is not None
    assert torch.equal(back.prompt, prompt)
    assert_same(back.state, tiny.state)


def test_a_tuned_prompt_of_another_width_is_refused(tiny: Conversion) -> None:
    written, _ = from_native(tiny, "microsoft")
    with pytest.raises(InputError, match=r"\(1000, 5\)"):
        to_native({**written, "rpn.tunable_linear.weight": torch.zeros(1000, 5)})


# Wrong files


@pytest.mark.parametrize("layout", ["microsoft", "mmdet", "native"])
def test_an_unknown_tensor_is_named(tiny: Conversion, layout: Layout) -> None:
    written, _ = from_native(tiny, layout)
    beginning = {"microsoft": "roi_heads.box", "mmdet": "bbox_head.extra", "native": "head.extra"}[layout]
    with pytest.raises(InputError, match=rf"{beginning}\.weight.*\b1\b"):
        to_native({**written, f"{beginning}.weight": torch.zeros(1)})


@pytest.mark.parametrize("layout", ["microsoft", "mmdet", "native"])
def test_a_missing_tensor_is_named(tiny: Conversion, layout: Layout) -> None:
    written, _ = from_native(tiny, layout)
    name = next(name for name in written if "centerness" in name)
    del written[name]
    with pytest.raises(InputError, match=name):
        to_native(written)


def test_a_missing_block_in_the_middle_is_noticed(tiny: Conversion) -> None:
    written, _ = from_native(tiny, "microsoft")
    written = {name: value for name, value in written.items() if ".dyhead_tower.2." not in name}
    with pytest.raises(InputError, match=r"dyhead_tower\.2\.DyConv"):
        to_native(written)


def test_a_wrong_shape_is_named_with_both_shapes(tiny: Conversion) -> None:
    written, _ = from_native(tiny, "mmdet")
    written["bbox_head.head.bbox_pred.bias"] = torch.zeros(5)
    with pytest.raises(InputError, match=r"head\.box\.bias.*\(5,\).*\(4,\)"):
        to_native(written)


def test_impossible_shapes_are_one_sentence(tiny: Conversion) -> None:
    for name, value in [("head.log_scale", torch.zeros(2, 2)), ("neck.p6.weight", torch.zeros(7, 1, 1, 1))]:
        with pytest.raises(InputError):
            to_native({**tiny.state, name: value})
    words = "text_encoder.bert.embeddings.word_embeddings.weight"
    with pytest.raises(InputError, match="native"):
        to_native({**tiny.state, words: torch.zeros(3)})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layers.0.blocks.0.attn.qkv.weight"], r"layers\.0"),
        ([], "glip models inspect"),
        (["rpn.head.bias0", "bbox_head.head.bias0"], "microsoft.*mmdet"),
    ],
)
def test_files_that_are_no_glip_checkpoint_are_told_apart(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        detect_layout(names)


def test_the_layout_follows_from_names_never_by_shapes(tiny: Conversion) -> None:
    for layout in ("microsoft", "mmdet", "native"):
        assert detect_layout(from_native(tiny, layout)[0]) == layout


def test_checked_shapes_name_the_first_fault() -> None:
    good = dict(expected_shapes(CONFIG))
    check_shapes(good, CONFIG)
    with pytest.raises(InputError, match=r"head\.bias "):
        check_shapes({name: shape for name, shape in good.items() if name != "head.bias"}, CONFIG)
    with pytest.raises(InputError, match="extra"):
        check_shapes({**good, "extra": (1,)}, CONFIG)


# The architecture


@pytest.mark.parametrize("config", [GLIP_T_A, GLIP_T, GLIP_L])
def test_a_published_architecture_is_recognised_with_all_its_settings(config: GLIPConfig) -> None:
    state = {name: torch.tensor(0.0).expand(shape) for name, shape in expected_shapes(config).items()}
    assert to_native(state).config == config


def test_another_architecture_is_read_off_the_shapes(tiny: Conversion) -> None:
    assert to_native(tiny.state).config == CONFIG


# Content beside the weights

WEIGHTS = {"rpn.a": torch.zeros(1), "rpn.b": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        OrderedDict(WEIGHTS),
        {"model": WEIGHTS},
        {"state_dict": WEIGHTS, "meta": {"epoch": 3}},
        {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {**{f"module.{name}": value for name, value in WEIGHTS.items()}, "optimizer": {"state": {}}, "iteration": 7},
    ],
)
def test_weights_are_found_wherever_they_are(content: dict[str, object]) -> None:
    state, _ = unwrap(content)
    assert_same(state, WEIGHTS)


def test_what_is_not_weights_is_named() -> None:
    content = {"model": {**WEIGHTS, "step": 3}, "optimizer": {}, "scheduler": {}, "iteration": 7}
    _, notes = unwrap(content)
    assert notes == ["not taken: step, optimizer, scheduler, iteration"]


def test_averaged_weights_are_mentioned_and_taken_on_demand() -> None:
    averaged = {name: value + 1 for name, value in WEIGHTS.items()}
    content = {"model": WEIGHTS, "model_ema": {f"module.{name}": value for name, value in averaged.items()}}
    plain, notes = unwrap(content)
    assert_same(plain, WEIGHTS)
    assert any("model_ema" in note for note in notes)
    taken, notes = unwrap(content, ema=True)
    assert_same(taken, averaged)
    assert len(notes) == 1 and "model" in notes[0]


@pytest.mark.parametrize(
    ("content", "ema", "message"),
    [
        ([1, 2], False, "list"),
        ({"epoch": 3}, False, "epoch"),
        ({"model": WEIGHTS}, True, "model_ema.*model"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, False, "module"),
    ],
)
def test_files_without_usable_weights_say_what_they_hold(content: object, ema: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unwrap(content, ema=ema)


@pytest.mark.parametrize("nano", [GLIP_NANO, GLIP_NANO_SWIN])
def test_nano_is_known_again_by_its_shapes_whatever_its_vocabulary(nano: GLIPConfig) -> None:
    config = replace(nano, text=replace(nano.text, vocab_size=77))
    state = {name: torch.empty(shape, device="meta") for name, shape in expected_shapes(config).items()}
    assert infer_config(state, PartCounts.of_names(state, "native")) == config


def conv_state() -> State:
    config = replace(CONFIG, swin=None, conv=ConvConfig())
    return {name: torch.zeros(shape) for name, shape in expected_shapes(config).items()}


def test_a_convolutional_backbone_stays_native() -> None:
    read = to_native(conv_state())
    assert read.config.conv == ConvConfig()
    assert read.config.swin is None
    assert from_native(read, "native")[0].keys() == conv_state().keys()
    layouts: tuple[Layout, ...] = ("microsoft", "mmdet")
    for layout in layouts:
        with pytest.raises(InputError, match=f"The layout {layout} has no convolutional backbone"):
            from_native(read, layout)


def test_a_convolutional_backbone_lacks_nothing_and_has_nothing_more() -> None:
    name = "backbone.stride16.0.0.expand.gain"
    with pytest.raises(InputError, match=f"lacks {name}"):
        to_native({key: value for key, value in conv_state().items() if key != name})
    with pytest.raises(InputError, match=r"backbone\.stride16\.9"):
        to_native(conv_state() | {"backbone.stride16.9": torch.zeros(1)})

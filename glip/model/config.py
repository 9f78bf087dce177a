"""Describes the architectures as data: three published ones and a small one of our own.

Checkpoints, the trained weights of an architecture, are rows of `weights.zoo`.
Source: the paper (arXiv:2112.03857), section 4, and `docs/model.md`, "Variants".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from glip.errors import InputError, shortened

# Values that are accepted in a file, first and last included; far beyond every published network, and small enough that
# nothing built from them fills the memory. A prompt may have 256 tokens, so fewer positions are of no use.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "swin.embed_dim": (1, 4096),
    "swin.depths": (1, 64),
    "swin.num_heads": (1, 512),
    "swin.window_size": (1, 32),
    "swin.drop_path": (0, 1),
    "text.vocab_size": (1, 2_000_000),
    "text.hidden_size": (1, 16_384),
    "text.num_layers": (1, 128),
    "text.num_heads": (1, 512),
    "text.intermediate_size": (1, 65_536),
    "text.max_positions": (256, 65_536),
    "model.channels": (1, 8192),
    "model.num_fusion_blocks": (1, 64),
    "model.fusion_dim": (1, 65_536),
    "model.fusion_heads": (1, 512),
    "model.imgsz": (32, 4096),
    "model.conf": (0, 1),
}
_FRACTIONS = ("swin.drop_path", "model.conf")
_STAGES = 4
_MAX_SHOWN = 60  # characters of a value in a message

# Default score threshold of models that name none. It is a first guess; an evaluation on COCO measures the best value.
DEFAULT_CONF = 0.3

Config = TypeVar("Config")


@dataclass(frozen=True)
class SwinConfig:
    """Swin Transformer of four stages; each stage after the first doubles the channels."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window_size: int
    # Maximum stochastic depth rate, reached at the last block; it grows linearly over all blocks. Training only.
    drop_path: float = 0.2

    @property
    def out_channels(self) -> tuple[int, int, int]:
        """Returns the channels of C3, C4, C5, which the neck reads."""
        return (self.embed_dim * 2, self.embed_dim * 4, self.embed_dim * 8)


@dataclass(frozen=True)
class ConvStage:
    """Inverted residual blocks at one resolution; the first block has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


CONV_NETWORKS: Mapping[str, tuple[ConvStage, ...]] = {
    "tf_efficientnet_lite0": (
        ConvStage(3, 1, 1, 16, 1),
        ConvStage(3, 2, 6, 24, 2),
        ConvStage(5, 2, 6, 40, 2),
        ConvStage(3, 2, 6, 80, 3),
        ConvStage(5, 1, 6, 112, 3),
        ConvStage(5, 2, 6, 192, 4),
        ConvStage(3, 1, 6, 320, 1),
    ),
}


@dataclass(frozen=True)
class ConvConfig:
    """A convolutional network of `CONV_NETWORKS`, by timm's name."""

    network: str = "tf_efficientnet_lite0"

    @property
    def out_channels(self) -> tuple[int, int, int]:
        """Returns the channels of C3, C4, C5, which the neck reads."""
        stages = CONV_NETWORKS[self.network]
        return (stages[2].channels, stages[4].channels, stages[6].channels)


@dataclass(frozen=True)
class TextConfig:
    """BERT; the defaults are bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512


@dataclass(frozen=True)
class GLIPConfig:
    """One GLIP architecture. Its backbone is either `swin` or `conv`; the other is None."""

    swin: SwinConfig | None = None
    conv: ConvConfig | None = None
    text: TextConfig = TextConfig()
    # Channels of every pyramid map, in neck, fusion and head.
    channels: int = 256
    # Blocks of (fusion, text layer, DyHead block); without deep fusion each is a DyHead block alone.
    num_fusion_blocks: int = 6
    deep_fusion: bool = True
    # Width and heads of the image-text attention.
    fusion_dim: int = 2048
    fusion_heads: int = 8
    # Short side of the network input, in pixels.
    imgsz: int = 800
    # Default score threshold of its boxes; score calibration differs between models.
    conf: float = DEFAULT_CONF

    def __post_init__(self) -> None:
        assert (self.swin is None) != (self.conv is None), "a GLIPConfig needs one backbone: swin or conv"

    @property
    def backbone(self) -> SwinConfig | ConvConfig:
        """Returns the configuration of the backbone."""
        backbone = self.swin or self.conv
        assert backbone is not None
        return backbone

    @property
    def num_levels(self) -> int:
        """Returns the number of pyramid levels, P3 to P7."""
        return 5


GLIP_T = GLIPConfig(swin=SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), window_size=7))
GLIP_T_A = replace(GLIP_T, deep_fusion=False)
GLIP_L = replace(
    GLIP_T,
    num_fusion_blocks=8,
    swin=SwinConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), window_size=12, drop_path=0.4),
)
# The same network, small enough for a laptop: every kind of layer, 5.7 million weights. It has its own vocabulary.
GLIP_NANO_SWIN = GLIPConfig(
    swin=SwinConfig(32, (2, 2, 4, 2), (1, 2, 4, 8), window_size=5, drop_path=0.0),
    text=TextConfig(
        vocab_size=1500, hidden_size=128, num_layers=2, num_heads=4, intermediate_size=256, max_positions=256
    ),
    channels=128,
    num_fusion_blocks=2,
    fusion_dim=256,
    fusion_heads=4,
    imgsz=224,
)
# With a backbone that has learned from ImageNet, for photographs: 7.2 million weights.
GLIP_NANO = replace(GLIP_NANO_SWIN, swin=None, conv=ConvConfig())


def config_to_dict(config: GLIPConfig) -> dict[str, Any]:
    """Returns the configuration as plain values that JSON can hold; the section of the unused backbone is left out."""
    return {name: value for name, value in asdict(config).items() if value is not None}


def config_from_dict(values: Mapping[str, Any]) -> GLIPConfig:
    """Returns the configuration that `config_to_dict` wrote.

    Raises:
        InputError: a field is missing, unknown or of the wrong kind; the message names it.
    """
    backbone: dict[str, SwinConfig | ConvConfig]
    if "conv" in values and "swin" in values:
        raise InputError("The model's configuration has two backbones, model.swin and model.conv. Remove one of them.")
    if "conv" in values and "swin" not in values:
        backbone = {"conv": _build_conv(values["conv"])}
    else:
        backbone = {"swin": _build(SwinConfig, values.get("swin"), "swin")}
    text = _build(TextConfig, values.get("text"), "text")
    return _divisible(_build(GLIPConfig, {**values, **backbone, "text": text}, "model"))


def _build_conv(values: object) -> ConvConfig:
    network = values.get("network") if isinstance(values, Mapping) and len(values) == 1 else values
    if not isinstance(network, str) or network not in CONV_NETWORKS:
        raise InputError(
            f"The model's config names the convolutional backbone {_shown(network)}; known: {', '.join(CONV_NETWORKS)}."
        )
    return ConvConfig(network)


def _build(kind: type[Config], values: object, where: str) -> Config:
    if not isinstance(values, Mapping):
        raise InputError(
            f"The model's configuration has no section {where!r}; `glip models convert` writes one that has."
        )
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"The model's configuration has an unknown field {_shown(unknown[0])} in {where!r}; known: {sorted(known)}."
        )
    for name, value in values.items():
        _check(f"{where}.{name}", value)
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise InputError(f"The model's configuration lacks a field of {where!r}: {error}.") from error


def _check(field: str, value: object) -> None:
    """Refuses a value of another kind or size than `_BOUNDS` allows."""
    if field == "model.deep_fusion":
        wanted, is_right = "true or false", isinstance(value, bool)
    elif field in _BOUNDS:
        low, high = _BOUNDS[field]
        kinds = (int, float) if field in _FRACTIONS else (int,)
        per_stage = field in ("swin.depths", "swin.num_heads")
        wanted = f"a {'number' if field in _FRACTIONS else 'whole number'} from {low} to {high}"
        wanted = f"a list of {_STAGES}, each {wanted}" if per_stage else wanted
        numbers = value if per_stage else [value]
        # A comparison with NaN is false; true and false would count as 1 and 0.
        is_right = (
            isinstance(numbers, (list, tuple))
            and len(numbers) == (_STAGES if per_stage else 1)
            and all(isinstance(n, kinds) and not isinstance(n, bool) and low <= n <= high for n in numbers)
        )
    else:  # a section, which was built before
        return
    if not is_right:
        raise InputError(f"The model's configuration holds {_shown(value)} as {field}; it must be {wanted}.")


def _divisible(config: GLIPConfig) -> GLIPConfig:
    """Refuses widths that cannot be shared equally among heads, which only the first image would show."""
    pairs = [
        ("text.hidden_size", config.text.hidden_size, "text.num_heads", config.text.num_heads),
        ("fusion_dim", config.fusion_dim, "fusion_heads", config.fusion_heads),
    ]
    if config.swin is not None:
        widths = [config.swin.embed_dim * 2**stage for stage in range(_STAGES)]
        pairs += [
            (f"the width of Swin's stage {stage + 1}", width, "its heads", heads)
            for stage, (width, heads) in enumerate(zip(widths, config.swin.num_heads, strict=True))
        ]
    for what, width, of, heads in pairs:
        if width % heads:
            raise InputError(
                f"The model's configuration has {what} {width}, which is no multiple of {heads} ({of}). Convert again."
            )
    return config


def _shown(value: object) -> str:
    """Returns a value of a file for a message, cut if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__} that is too long to show"
    return shortened(text, _MAX_SHOWN)

"""What learns: a table of tuning modes, applied in one place. Source: SPEC 12."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from timm.layers import DropPath
from torch import nn
from transformers.models.bert.modeling_bert import BertSelfAttention

from glip.errors import InputError
from glip.model.glip import GLIP
from glip.model.neck import DropBlock
from glip.prompts import MAX_TOKENS


@dataclass(frozen=True)
class Learns:
    """One tuning mode."""

    # Patterns of the parameters that learn, and of those among them that do not.
    parameters: tuple[str, ...]
    all_but: tuple[str, ...] = ()
    # Modules that stay in evaluation mode: their dropout, drop path and DropBlock are off.
    resting: tuple[str, ...] = ()

    def matches(self, name: str) -> bool:
        """Whether the parameter of this name learns."""

        def in_any(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(name, pattern) for pattern in patterns)

        return in_any(self.parameters) and not in_any(self.all_but)


_STEM = ("backbone.patch_embed", "backbone.stages.0")

TUNING_MODES = {
    # Pre-training of the published variants but L.
    "all": Learns(("*",)),
    # Fine-tuning, and pre-training of L.
    "full": Learns(("*",), all_but=tuple(f"{module}.*" for module in _STEM), resting=_STEM),
    # Published as linear_prob: the level scales do not learn, and the frozen tower keeps its dropout.
    "linear": Learns(
        ("head.box.*", "head.centerness.*", "head.text.*", "head.log_scale", "head.bias", "head.bias_text"),
        resting=("backbone", "neck", "text_encoder"),
    ),
    # Published as language_prompt_v1 and, with the same result, v3.
    "language": Learns(("text_encoder.*",), resting=("backbone", "neck", "fusion", "head")),
    # Published as language_prompt_v2 and, with the same result, v4.
    "prompt": Learns(("prompt_offset",), resting=("backbone", "neck", "text_encoder", "fusion", "head")),
}


def select_trainable(model: GLIP, mode: str) -> None:
    """Lets the mode's parameters learn and freezes all others; for `prompt`, makes the offset (zeros) if there is none.

    Raises:
        InputError: no mode has this name.
    """
    learns = _find(mode)
    if mode == "prompt" and model.prompt_offset is None:
        model.set_prompt_offset(torch.zeros(MAX_TOKENS, model.head.bias_text.numel()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns.matches(name))


def enter_train_mode(model: GLIP, mode: str) -> None:
    """`model.train()`, but for the modules that rest in this mode.

    Raises:
        InputError: no mode has this name.
    """
    learns = _find(mode)
    model.train()
    for name in learns.resting:
        model.get_submodule(name).eval()


def rest_randomness(model: GLIP) -> None:
    """Switches off dropout, drop path and DropBlock in a model that is in training mode. Not published."""
    for module in model.modules():
        if isinstance(module, (nn.Dropout, BertSelfAttention, DropPath, DropBlock)):
            module.eval()


def _find(mode: str) -> Learns:
    try:
        return TUNING_MODES[mode]
    except KeyError:
        raise InputError(f"No tuning mode is called {mode!r}; known: {', '.join(TUNING_MODES)}.") from None

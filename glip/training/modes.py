"""Applies a tuning mode to a model: which parameters are trained, and how modules behave while training.

Source: the six published tuning modes (microsoft/GLIP, maskrcnn_benchmark/engine/trainer.py and
configs/odinw_13/*.yaml); docs/training.md, "Tuning modes".
"""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import DropPath
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.models.bert.modeling_bert import BertSelfAttention

from glip.errors import InputError
from glip.model.backbone import SwinBlock
from glip.model.fusion import FusionBlock
from glip.model.glip import GLIP
from glip.model.neck import DropBlock
from glip.prompts import MAX_TOKENS
from glip.training.settings import TUNING_MODES, Learns


def select_trainable(model: GLIP, mode: str) -> None:
    """Makes the mode's parameters trainable and freezes all others.

    For `prompt`, creates the prompt offset (zeros) if the model has none.

    Raises:
        InputError: no mode has this name.
    """
    learns = _find(mode)
    if mode == "prompt" and model.prompt_offset is None:
        model.set_prompt_offset(torch.zeros(MAX_TOKENS, model.head.bias_text.numel()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns.matches(name))


def enter_train_mode(model: GLIP, mode: str) -> None:
    """Calls `model.train()`, then puts the mode's resting modules back into evaluation mode.

    Raises:
        InputError: no mode has this name.
    """
    learns = _find(mode)
    model.train()
    for name, module in model.named_modules():
        if name in learns.resting:
            module.eval()


def disable_dropout(model: GLIP) -> None:
    """Switches off dropout, drop path and DropBlock in a model that is in training mode. Not published."""
    for module in model.modules():
        if isinstance(module, (nn.Dropout, BertSelfAttention, DropPath, DropBlock)):
            module.eval()


def recompute_blocks(model: GLIP) -> None:
    """Makes the blocks of Swin and of the fusion tower keep only their input for the backward pass.

    Uses less memory and about a third more time. Results stay the same, dropout included.
    """
    for module in model.modules():
        if isinstance(module, (SwinBlock, FusionBlock)):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def _find(mode: str) -> Learns:
    try:
        return TUNING_MODES[mode]
    except KeyError:
        raise InputError(f"mode is {mode!r}; it must be one of {', '.join(TUNING_MODES)}.") from None

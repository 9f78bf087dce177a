"""Reads and writes adapters: small files with the tensors that tuning learned for an unchanged base model.

The file is safetensors: the learned tensors by native name, and in its metadata one JSON text, `glip`, with the base
model (by the hash of its weights), the tuning mode, and the classes that were learned. Any number of adapters share one
base, whose own weights never change.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from glip.errors import InputError, shortened
from glip.files import decode_json, whole_file
from glip.names import name_key
from glip.prompts import MAX_TOKENS, Prompt, Span

if TYPE_CHECKING:
    from glip.model.glip import GLIP

FORMAT = 1
PROMPT = "prompt_offset"
_KEY = "glip"
_MAX_BYTES = 256 << 20
_MAX_SHOWN = 120  # characters of a caption or a class list in a message

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Learned tensors for one base model.

    Attributes:
        mode: the tuning mode, prompt or linear.
        base: identity of the base model, see `ModelFolder.identity`.
        base_name: name of the base model.
        names: names of the classes.
        tensors: native names to tensors; 'prompt_offset' is the tuned prompt.
        caption: the caption of the classes; '' if they need several.
        spans: for each class its character ranges in the caption.
        category_ids: ids of the classes.
        imgsz: short side in pixels of the images of tuning and validation.
        sha256: hash of the adapter's file.
    """

    mode: str
    base: str
    base_name: str
    names: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    caption: str = ""
    spans: tuple[tuple[Span, ...], ...] = ()
    category_ids: tuple[int, ...] = ()
    imgsz: int | None = None
    sha256: str = field(default="", compare=False)

    @property
    def prompt(self) -> Prompt | None:
        """Returns the caption with its classes; None if there are several."""
        return Prompt(self.caption, self.names, self.spans) if self.caption else None

    @property
    def bound_to(self) -> Prompt | None:
        """Returns the only prompt that the tuned model can read; None if it reads any.

        A tuned prompt is added to the text token by token, so it belongs to one caption. Other modes train weights that
        any caption passes through.
        """
        return self.prompt if PROMPT in self.tensors else None

    def identity(self, base: str) -> str:
        """Returns a hash of all weights of the tuned model: of the base's identity and the adapter's file."""
        return hashlib.sha256(f"{base} {self.sha256}".encode()).hexdigest()

    def put_on(self, model: GLIP) -> None:
        """Sets the learned tensors in a model of the base; no other tensor changes.

        Raises:
            InputError: the model has no such tensor, or one of another shape.
        """
        parameters = dict(model.named_parameters())
        for name, value in self.tensors.items():
            if name == PROMPT:
                wanted = (MAX_TOKENS, model.head.bias_text.numel())
                if value.dim() != 2 or value.shape[0] < wanted[0] or value.shape[1] != wanted[1]:
                    raise InputError(
                        f"The adapter's tensor {name!r} {tuple(value.shape)} does not fit: the model needs at least "
                        f"{wanted[0]} rows of {wanted[1]}. Tune again on this model."
                    )
                model.set_prompt_offset(value.float())
                continue
            parameter = parameters.get(name)
            if parameter is None or parameter.shape != value.shape:
                found = "has no such tensor" if parameter is None else f"has {tuple(parameter.shape)}"
                raise InputError(
                    f"The adapter's tensor {name!r} {tuple(value.shape)} does not fit: the model {found}. "
                    f"Tune again on this model."
                )
            with torch.no_grad():
                parameter.copy_(value)


class _Meta(msgspec.Struct, frozen=True):
    format: int
    mode: str
    base: str
    base_name: str
    names: tuple[str, ...]
    caption: str = ""
    spans: tuple[tuple[Span, ...], ...] = ()
    category_ids: tuple[int, ...] = ()
    imgsz: int | None = None


def save_adapter(path: Path, adapter: Adapter) -> None:
    """Writes an adapter, whole or not at all; equal adapters give equal bytes.

    Raises:
        JobFailed: it cannot be written.
    """
    meta = _Meta(
        FORMAT,
        adapter.mode,
        adapter.base,
        adapter.base_name,
        adapter.names,
        adapter.caption,
        adapter.spans,
        adapter.category_ids,
        adapter.imgsz,
    )
    tensors = {name: adapter.tensors[name].detach().cpu().contiguous() for name in sorted(adapter.tensors)}
    # Only one entry of metadata, because several would be written in any order.
    content = save(tensors, metadata={_KEY: msgspec.json.encode(meta).decode()})
    with whole_file(path) as file:
        file.write(content)


def load_adapter(path: Path) -> Adapter:
    """Reads an adapter.

    Raises:
        InputError: the file is missing, damaged or not an adapter.
    """
    try:
        if not path.is_file():
            raise InputError(f"There is no adapter {path}.")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MB and no adapter. Is it another file?")
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"Cannot read the adapter {path}: {error.strerror or error}.") from error
    except (SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"The adapter {path} is cut off or damaged ({error}); tune again or fetch it again."
        ) from error
    if text is None:
        raise InputError(f"{path} is not an adapter: it names no base model. `glip finetune` makes adapters.")
    meta = decode_json(
        text, _Meta, f"The metadata of {path}", "those of an adapter", hint="Tune again or fetch it again."
    )
    if meta.format != FORMAT:
        raise InputError(f"The adapter {path} has the format {meta.format}; this program reads {FORMAT}. Tune again.")
    adapter = Adapter(
        meta.mode,
        meta.base,
        meta.base_name,
        meta.names,
        tensors,
        meta.caption,
        meta.spans,
        meta.category_ids,
        meta.imgsz,
        hashlib.sha256(content).hexdigest(),
    )
    if problem := _problem_of(adapter):
        raise InputError(f"The adapter {path} cannot be used: {problem} Tune again or fetch it again.")
    return adapter


def _problem_of(adapter: Adapter) -> str | None:
    """Returns what is wrong with the content of an adapter, as a sentence; None if nothing is."""
    names = len(adapter.names)
    for what, count in (("spans", len(adapter.spans)), ("category ids", len(adapter.category_ids))):
        if count not in (0, names):
            return f"it has {names} names and {count} {what}."
    if not all(-(2**63) <= id < 2**63 for id in adapter.category_ids):
        return "a category id is beyond 64 bits."
    if not adapter.tensors:
        return "it holds no tensor."
    for name, value in adapter.tensors.items():
        if not value.is_floating_point() or not value.float().isfinite().all():
            return f"its tensor {name[:_MAX_SHOWN]!r} ({value.dtype}) holds values that are no finite numbers."
    try:
        has_prompt = adapter.prompt is not None
    except InputError as error:
        return str(error)
    if PROMPT in adapter.tensors and not has_prompt:
        return "it has a tuned prompt, but does not say for which caption."
    return None


def check_base(adapter: Adapter, identity: str, name: str) -> None:
    """Refuses a model that the adapter was not tuned on.

    Raises:
        InputError: the adapter belongs to another model.
    """
    if adapter.base != identity:
        raise InputError(
            f"The adapter was tuned on {adapter.base_name} ({adapter.base[:12]}…), but {name} is another model "
            f"({identity[:12]}…). Use the model that it was tuned on."
        )


def in_tuned_caption(tuned: Prompt, names: Sequence[str]) -> Prompt:
    """Returns the tuned prompt with its classes in the order of the names.

    Raises:
        InputError: the names are others than those of the tuning.
    """
    prompt = tuned.in_order_of(names)
    if prompt is None:
        caption, phrases, asked = (
            shortened(text, _MAX_SHOWN) for text in (tuned.caption, ", ".join(tuned.phrases), ", ".join(names))
        )
        raise InputError(
            f"The adapter was tuned on the caption {caption!r} and finds "
            f"{phrases}, all of them together; it was asked for "
            f"{asked or 'nothing'}. Ask for these {len(tuned.phrases)} names, in any order, or "
            f"tune in mode linear, whose adapters read any prompt."
        )
    if prompt is not tuned:
        logger.warning(
            "The adapter is asked for its classes in the order or spelling of its tuning (%s); boxes get the names "
            "that were given.",
            shortened(", ".join(tuned.phrases), _MAX_SHOWN),
        )
    return prompt


def refuse_other_caption(tuned: Prompt, prompt: Prompt) -> None:
    """Refuses another caption than that of the tuning, and one of its names for the words of another.

    Raises:
        InputError: it is one of these.
    """
    caption = shortened(tuned.caption, _MAX_SHOWN)
    if prompt.caption != tuned.caption:
        raise InputError(
            f"The adapter was tuned on the caption {caption!r} and reads no other, but was given "
            f"{shortened(prompt.caption, _MAX_SHOWN)!r}. Leave out the caption, or tune in mode linear."
        )
    own: dict[str, set[tuple[Span, ...]]] = {}
    for phrase, spans in zip(tuned.phrases, tuned.spans, strict=True):
        own.setdefault(name_key(phrase), set()).add(spans)
    for phrase, spans in zip(prompt.phrases, prompt.spans, strict=True):
        if spans not in own.get(name_key(phrase), {spans}):
            raise InputError(
                f"The phrase {phrase!r} is given other words of the caption {caption!r} than in the "
                f"tuning of the adapter: {list(spans)}. Give each name its own words."
            )

"""An adapter: what tuning has learned beside a model that stays as it is, in one small file.

The file is safetensors: the learned tensors by their native names, and in its metadata one JSON text, `glip`, that says
which base the tensors belong to (by the hash of its numbers), how they were tuned, and what they were tuned to find.
Any number of adapters share one base; without an adapter the base is untouched, to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from glip.errors import InputError
from glip.files import whole_file
from glip.prompts import Prompt, Span

if TYPE_CHECKING:
    from glip.model.glip import GLIP

FORMAT = 1
PROMPT = "prompt_offset"
_KEY = "glip"


@dataclass(frozen=True, eq=False)
class Adapter:
    """Tensors for one base.

    Attributes:
        mode: how they were tuned: prompt or linear.
        base: identity of the model they belong to, see `ModelFolder.identity`.
        base_name: what that model was called.
        names: the classes.
        tensors: by native name; 'prompt_offset' is the tuned prompt.
        caption: what the classes are asked by; '' where they need several captions.
        spans: for each class its character ranges in the caption.
        category_ids: of the classes.
        imgsz: short side in pixels that was tuned and validated at.
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
        """The caption with its classes; None where there are several."""
        return Prompt(self.caption, self.names, self.spans) if self.caption else None

    def identity(self, base: str) -> str:
        """Says which numbers make a result: a hash of the base's identity and the adapter's file."""
        return hashlib.sha256(f"{base} {self.sha256}".encode()).hexdigest()

    def put_on(self, model: GLIP) -> None:
        """Gives a model of the base what was learned; no other tensor changes.

        Raises:
            InputError: a tensor has no place in the model.
        """
        parameters = dict(model.named_parameters())
        for name, value in self.tensors.items():
            if name == PROMPT and value.dim() == 2 and value.shape[1] == model.head.bias_text.numel():
                model.set_prompt_offset(value)
                continue
            place = parameters.get(name)
            if place is None or place.shape != value.shape:
                found = "has no such tensor" if place is None else f"has {tuple(place.shape)}"
                raise InputError(
                    f"The adapter's tensor {name!r} {tuple(value.shape)} does not fit: the model {found}. "
                    f"Tune again on this model."
                )
            with torch.no_grad():
                place.copy_(value)


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
    # One entry of metadata: several would be written in any order.
    content = save(tensors, metadata={_KEY: msgspec.json.encode(meta).decode()})
    with whole_file(path) as file:
        file.write(content)


def load_adapter(path: Path) -> Adapter:
    """Reads an adapter.

    Raises:
        InputError: there is none, or it is damaged or something else.
    """
    try:
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"Cannot read the adapter {path}: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise InputError(f"The adapter {path} is cut off or damaged ({error}); tune again or fetch it anew.") from error
    if text is None:
        raise InputError(f"{path} is no adapter: it does not say which model it belongs to. `glip finetune` makes one.")
    try:
        meta = msgspec.json.decode(text, type=_Meta)
    except msgspec.DecodeError as error:
        raise InputError(f"The adapter {path} is damaged ({error}); tune again or fetch it anew.") from error
    if meta.format != FORMAT:
        raise InputError(f"The adapter {path} is of format {meta.format}, this program reads {FORMAT}; tune again.")
    return Adapter(
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


def check_base(adapter: Adapter, identity: str, name: str) -> None:
    """Refuses a model that the adapter was not tuned on.

    Raises:
        InputError: it is another one.
    """
    if adapter.base != identity:
        raise InputError(
            f"The adapter was tuned on {adapter.base_name} ({adapter.base[:12]}…), and {name} is another model "
            f"({identity[:12]}…). Give --model the one it was tuned on."
        )

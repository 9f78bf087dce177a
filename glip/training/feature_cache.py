"""What is frozen is computed once: images up to the fusion, and texts, kept in memory and then on disk.

In a mode where backbone and neck rest, the pyramid maps of an image are always the same; so is the text where its
encoder rests. Both are looked up by what goes in, pixels and tokens, so nothing can be mixed up: other sizes, mirrors
or paddings of an image are other images. Losses equal
the plain loop's up to rounding: cached maps come from a pass without gradients, for which some processors have other
kernels. Knows tensors; nothing of data sets or of how batches are made.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glip.model.glip import GLIP, RawOutputs
from glip.model.text import TextFeatures
from glip.training.batches import TrainingBatch
from glip.training.loop import Batches
from glip.training.modes import TUNING_MODES

MEMORY = 4 << 30  # bytes
DISK = 32 << 30

logger = logging.getLogger(__name__)

Tensors = list[Tensor]


class Store:
    """Groups of tensors by key, in memory as long as there is room, then in files.

    What does not fit any more is not kept, and nothing gives way: images come round and round, so whatever is dropped
    would be the next to be asked for.

    Attributes:
        found, missed: how often something was there, and was not.
    """

    def __init__(self, folder: Path | None = None, memory: int = MEMORY, disk: int = DISK) -> None:
        """An empty store.

        Args:
            folder: for files, emptied first; None for memory alone.
            memory, disk: bytes that may be used.
        """
        self._kept: dict[str, Tensors] = {}
        self._files: dict[str, Path] = {}
        self._folder = folder
        self._memory, self._disk = memory, disk if folder is not None else 0
        self.found = self.missed = 0
        if folder is not None and folder.is_dir():
            # An earlier run was killed here; what it left may be of another model.
            shutil.rmtree(folder, ignore_errors=True)

    def get(self, key: str, device: torch.device) -> Tensors | None:
        """The tensors of a key on a device, None if they are not kept."""
        if key in self._kept:
            self.found += 1
            return [value.to(device) for value in self._kept[key]]
        if key in self._files:
            self.found += 1
            content = load_file(self._files[key])
            return [content[str(place)].to(device) for place in range(len(content))]
        self.missed += 1
        return None

    def put(self, key: str, tensors: Sequence[Tensor]) -> None:
        """Keeps tensors if there is room."""
        if key in self._kept or key in self._files:
            return
        size = sum(value.nbytes for value in tensors)
        if size <= self._memory:
            self._memory -= size
            # A slice of a batch would hold on to the whole batch.
            self._kept[key] = [value.detach().clone() for value in tensors]
        elif size <= self._disk:
            self._write(key, tensors, size)

    def _write(self, key: str, tensors: Sequence[Tensor], size: int) -> None:
        assert self._folder is not None
        path = self._folder / f"{key}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            content = {str(place): value.detach().cpu().contiguous() for place, value in enumerate(tensors)}
            save_file(content, path)
        except Exception as error:  # noqa: BLE001  # whatever the disk says: without it everything is computed anew
            logger.warning("Features cannot be kept in %s (%s); they are computed anew.", self._folder, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            self._disk = 0
            return
        self._disk -= size
        self._files[key] = path

    def close(self) -> None:
        """Forgets everything and removes the files."""
        self._kept, self._files = {}, {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class KeyedBatch(TrainingBatch):
    """A batch that knows its images.

    Attributes:
        keys: (B) a name for each image's numbers.
    """

    keys: tuple[str, ...] = ()

    def rows(self, rows: list[int]) -> KeyedBatch:
        """Some of the images."""
        return KeyedBatch(
            self.pixels[rows],
            self.input_ids[rows],
            self.mask[rows],
            [self.targets[row] for row in rows],
            tuple(self.keys[row] for row in rows),
        )


def keyed(batches: Batches) -> Batches:
    """The same batches with keys, made while the numbers are still in the processor's memory."""

    def with_keys(steps: range) -> Iterator[TrainingBatch]:
        for batch in batches(steps):
            values = {field.name: getattr(batch, field.name) for field in fields(TrainingBatch)}
            yield KeyedBatch(**values, keys=tuple(map(fingerprint, batch.pixels)))

    return with_keys


def fingerprint(values: Tensor) -> str:
    """A name that only equal tensors share."""
    content = values.detach().cpu().contiguous()
    digest = hashlib.blake2b(repr((tuple(content.shape), content.dtype)).encode(), digest_size=16)
    digest.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FrozenParts:
    """Runs a model in one mode; computes what rests in it once.

    Give `forward` to `fit`, and batches from `keyed`. One process only: gradients of a model that is shared by several
    are exchanged inside of its own forward.
    """

    def __init__(self, mode: str, store: Store) -> None:
        resting = TUNING_MODES[mode].resting
        self.keeps_maps = "backbone" in resting and "neck" in resting
        self.keeps_text = "text_encoder" in resting
        # Without dropout an image that stands in a batch twice gives the same twice, and few examples are copied.
        self._joins_doubles = {"backbone", "neck", "text_encoder", "fusion", "head"} <= set(resting)
        self._store = store
        self._texts: dict[str, Tensor] = {}

    @property
    def useful(self) -> bool:
        """Whether the mode freezes anything that costs time."""
        return self.keeps_maps

    def forward(self, model: Any, batch: TrainingBatch) -> RawOutputs:
        """What `model(pixels, input_ids, mask)` gives.

        Args:
            model: in training mode as `enter_train_mode` leaves it.
            batch: with keys; without them its images are computed.
        """
        if not self._joins_doubles or not isinstance(batch, KeyedBatch):
            return self._outputs(model, batch)
        texts = [(*ids, *real) for ids, real in zip(batch.input_ids.tolist(), batch.mask.tolist(), strict=True)]
        questions = list(zip(batch.keys, texts, strict=True))
        rows = {question: row for row, question in reversed(list(enumerate(questions)))}
        if len(rows) == len(questions):
            return self._outputs(model, batch)
        first = sorted(rows.values())
        outputs = self._outputs(model, batch.rows(first))
        places = [first.index(rows[question]) for question in questions]
        return replace(
            outputs,
            alignment=outputs.alignment[places],
            deltas=outputs.deltas[places],
            centerness=outputs.centerness[places],
        )

    def _outputs(self, model: GLIP, batch: TrainingBatch) -> RawOutputs:
        maps = self._maps(model, batch) if self.keeps_maps else model.encode_image(batch.pixels)
        if not self.keeps_text:
            return model.ground(maps, model.encode_text(batch.input_ids, batch.mask))
        text = TextFeatures(self._hidden(model, batch), batch.mask)
        return model.ground(maps, text if model.prompt_offset is None else text.shifted(model.prompt_offset))

    def _maps(self, model: GLIP, batch: TrainingBatch) -> Tensors:
        if not isinstance(batch, KeyedBatch):
            return model.encode_image(batch.pixels)
        device = batch.pixels.device
        known: dict[str, Tensors] = {}
        rows: dict[str, int] = {}
        for row, key in enumerate(batch.keys):
            if key in known or key in rows:
                continue
            kept = self._store.get(key, device)
            if kept is None:
                rows[key] = row
            else:
                known[key] = kept
        if rows:
            with torch.no_grad():
                computed = model.encode_image(batch.pixels[list(rows.values())])
            for place, key in enumerate(rows):
                known[key] = [level[place : place + 1] for level in computed]
                self._store.put(key, known[key])
        return [torch.cat(levels) for levels in zip(*(known[key] for key in batch.keys), strict=True)]

    def _hidden(self, model: GLIP, batch: TrainingBatch) -> Tensor:
        key = fingerprint(batch.input_ids) + fingerprint(batch.mask)
        if key not in self._texts:
            with torch.no_grad():
                self._texts[key] = model.text_encoder(batch.input_ids, batch.mask).hidden
            if len(self._texts) > 256:  # captions of their own for every image: nothing comes round
                self._texts.pop(next(iter(self._texts)))
        return self._texts[key]

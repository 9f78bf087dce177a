"""Computes frozen parts once: pyramid maps of images and text features, kept in memory and then on disk.

Where backbone and neck are frozen, the pyramid maps of an image never change; the same holds for text features where
the text encoder is frozen. Both are cached by their input (pixels, tokens), so each size, flip or padding of an image
has its own entry. Losses equal the plain loop's up to rounding: cached maps come from a pass without gradients, for
which some processors use other kernels. Knows tensors; nothing of data sets or of how batches are made.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glip.model.glip import GLIP, RawOutputs
from glip.model.text import TextFeatures
from glip.training.batches import TrainingBatch
from glip.training.loop import Batches
from glip.training.settings import CACHE_IN_MEMORY, CACHE_ON_DISK, TUNING_MODES

_CACHED_TEXTS = 256

logger = logging.getLogger(__name__)

Tensors = list[Tensor]


class FeatureStore:
    """Keeps groups of tensors by key, in memory while there is room, then in files.

    When both are full, nothing is evicted: images come round in cycles, so an evicted entry would be the next one
    needed.

    Attributes:
        hits, misses: number of lookups that found their key, and that did not.
    """

    def __init__(self, folder: Path | None = None, memory: int = CACHE_IN_MEMORY, disk: int = CACHE_ON_DISK) -> None:
        """Creates an empty store.

        Args:
            folder: where files are written once memory is full; deleted first if it exists. None for memory only.
            memory, disk: maximum number of bytes in memory and in files.
        """
        self._in_memory: dict[str, Tensors] = {}
        self._files: dict[str, Path] = {}
        self._folder = folder
        self._memory, self._disk = memory, disk if folder is not None else 0
        self.hits = self.misses = 0
        if folder is not None and folder.is_dir():
            # Files of a run that was killed may belong to another model.
            shutil.rmtree(folder, ignore_errors=True)

    def get(self, key: str, device: torch.device) -> Tensors | None:
        """Returns the tensors of a key on a device; None if the key is not in the store."""
        if key in self._in_memory:
            self.hits += 1
            return [value.to(device) for value in self._in_memory[key]]
        if key in self._files:
            try:
                content = load_file(self._files[key])
            except (OSError, SafetensorError) as error:
                logger.warning("Cannot read cached features (%s); they are computed again.", error)
                del self._files[key]
            else:
                self.hits += 1
                return [content[str(index)].to(device) for index in range(len(content))]
        self.misses += 1
        return None

    def put(self, key: str, tensors: Sequence[Tensor]) -> None:
        """Adds tensors if there is room for them."""
        if key in self._in_memory or key in self._files:
            return
        size = sum(value.nbytes for value in tensors)
        if size <= self._memory:
            self._memory -= size
            # Cloned, because a slice of a batch would keep the whole batch in memory.
            self._in_memory[key] = [value.detach().clone() for value in tensors]
        elif size <= self._disk:
            self._write(key, tensors, size)

    def _write(self, key: str, tensors: Sequence[Tensor], size: int) -> None:
        assert self._folder is not None
        path = self._folder / f"{key}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            content = {str(index): value.detach().cpu().contiguous() for index, value in enumerate(tensors)}
            save_file(content, path)
        except Exception as error:  # noqa: BLE001  # any error of the disk: features are then computed again
            logger.warning("Cannot cache features in %s (%s); they are computed again each time.", self._folder, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            self._disk = 0
            return
        self._disk -= size
        self._files[key] = path

    def close(self) -> None:
        """Empties the store and removes its files."""
        self._in_memory, self._files = {}, {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class KeyedBatch(TrainingBatch):
    """A batch whose images have cache keys.

    Attributes:
        keys: (B) fingerprint of each image's pixels.
    """

    keys: tuple[str, ...] = ()

    def rows(self, rows: list[int]) -> KeyedBatch:
        """Returns the batch with only these rows."""
        return KeyedBatch(
            self.pixels[rows],
            self.input_ids[rows],
            self.mask[rows],
            [self.targets[row] for row in rows],
            tuple(self.keys[row] for row in rows),
        )


def keyed(batches: Batches) -> Batches:
    """Returns the same batches with keys, computed while the pixels are still in the processor's memory."""

    def with_keys(steps: range) -> Iterator[TrainingBatch]:
        for batch in batches(steps):
            values = {field.name: getattr(batch, field.name) for field in fields(TrainingBatch)}
            yield KeyedBatch(**values, keys=tuple(map(fingerprint, batch.pixels)))

    return with_keys


def fingerprint(values: Tensor) -> str:
    """Returns a hash of a tensor's shape, type and values."""
    content = values.detach().cpu().contiguous()
    digest = hashlib.blake2b(repr((tuple(content.shape), content.dtype)).encode(), digest_size=16)
    digest.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FrozenParts:
    """Runs a model in one mode and computes its frozen parts once.

    Pass `forward` to `fit`, and batches from `keyed`. Works with one process only: with several, gradients are
    exchanged inside the model's own forward, which this class does not call.
    """

    def __init__(self, mode: str, store: FeatureStore) -> None:
        resting = TUNING_MODES[mode].resting
        self.caches_maps = "backbone" in resting and "neck" in resting
        self.caches_text = "text_encoder" in resting
        # Without dropout, equal images of a batch give equal outputs; few-shot examples are repeated in a batch.
        self._merges_duplicates = {"backbone", "neck", "text_encoder", "fusion", "head"} <= set(resting)
        self._store = store
        self._texts: dict[str, Tensor] = {}

    @property
    def useful(self) -> bool:
        """Whether the mode freezes anything that is worth caching."""
        return self.caches_maps

    def forward(self, model: Any, batch: TrainingBatch) -> RawOutputs:
        """Returns the outputs of `model(pixels, input_ids, mask)`.

        Args:
            model: in training mode, as `enter_train_mode` leaves it.
            batch: a `KeyedBatch`; the images of other batches are computed each time.
        """
        if not self._merges_duplicates or not isinstance(batch, KeyedBatch):
            return self._outputs(model, batch)
        texts = [(*ids, *real) for ids, real in zip(batch.input_ids.tolist(), batch.mask.tolist(), strict=True)]
        pairs = list(zip(batch.keys, texts, strict=True))
        first_row = {pair: row for row, pair in reversed(list(enumerate(pairs)))}
        if len(first_row) == len(pairs):
            return self._outputs(model, batch)
        rows = sorted(first_row.values())
        outputs = self._outputs(model, batch.rows(rows))
        indices = [rows.index(first_row[pair]) for pair in pairs]
        return replace(
            outputs,
            alignment=outputs.alignment[indices],
            deltas=outputs.deltas[indices],
            centerness=outputs.centerness[indices],
        )

    def _outputs(self, model: GLIP, batch: TrainingBatch) -> RawOutputs:
        maps = self._maps(model, batch) if self.caches_maps else model.encode_image(batch.pixels)
        if not self.caches_text:
            return model.ground(maps, model.encode_text(batch.input_ids, batch.mask))
        text = TextFeatures(self._hidden(model, batch), batch.mask)
        return model.ground(maps, text if model.prompt_offset is None else text.shifted(model.prompt_offset))

    def _maps(self, model: GLIP, batch: TrainingBatch) -> Tensors:
        if not isinstance(batch, KeyedBatch):
            return model.encode_image(batch.pixels)
        device = batch.pixels.device
        known: dict[str, Tensors] = {}
        for row, key in enumerate(batch.keys):
            if key in known:
                continue
            cached = self._store.get(key, device)
            if cached is None:
                # Each image alone: the last bits of a convolution depend on the images beside it, and which images are
                # still missing depends on where a run was interrupted and on which runs share the store.
                with torch.no_grad():
                    cached = model.encode_image(batch.pixels[row : row + 1])
                self._store.put(key, cached)
            known[key] = cached
        return [torch.cat(levels) for levels in zip(*(known[key] for key in batch.keys), strict=True)]

    def _hidden(self, model: GLIP, batch: TrainingBatch) -> Tensor:
        key = fingerprint(batch.input_ids) + fingerprint(batch.mask)
        if key not in self._texts:
            with torch.no_grad():
                self._texts[key] = model.text_encoder(batch.input_ids, batch.mask).hidden
            if len(self._texts) > _CACHED_TEXTS:
                self._texts.pop(next(iter(self._texts)))
        return self._texts[key]

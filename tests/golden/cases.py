"""Golden cases: their inputs, the stages of our model under the original's names, and the comparison.

A case is `name.json` (description) and `name.npz` (samples of every stage of the original). Cases whose image is a
formula lie beside this file; the others in the folder of golden numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glip.images import ImageBatch, collate, prepare
from glip.model.backbone import Backbone
from glip.model.glip import GLIP, RawOutputs
from glip.model.postprocess import ScoredBoxes, select

Array = NDArray[Any]
LEVELS = ("P3", "P4", "P5", "P6", "P7")


@dataclass(frozen=True)
class Case:
    """One golden case."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, Array]
    folder: Path

    @classmethod
    def read(cls, folder: Path, name: str) -> Case:
        """`folder` holds name.json and name.npz."""
        with np.load(folder / f"{name}.npz") as arrays:
            return cls(name, json.loads((folder / f"{name}.json").read_text()), dict(arrays), folder)

    @property
    def input_ids(self) -> Tensor:
        """(1, T) token ids of the caption, [CLS] and [SEP] included."""
        return torch.tensor([self.meta["input_ids"]])

    @property
    def positive_map(self) -> Tensor:
        """(P, T)."""
        result = torch.zeros(len(self.meta["positive_map"]), self.meta["n_tokens"])
        for label, tokens in self.meta["positive_map"].items():
            result[int(label) - 1, tokens] = 1
        return result

    def batch(self) -> ImageBatch:
        """The images, prepared as a user's would be."""
        return collate([prepare(self._image(image), image["min_size"]) for image in self.meta["images"]])

    def _image(self, image: dict[str, Any]) -> Image.Image:
        if image["file"].endswith("formula.png"):
            return formula_image()
        with Image.open(self.folder.parent / image["file"]) as photo:
            return photo.convert("RGB")


def formula_image() -> Image.Image:
    """An image that needs no file: 320 x 480 pixels in squares of 32."""
    squares = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (10, 15, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(squares, np.ones((32, 32, 1), np.uint8)))


@dataclass
class Stages:
    """What every stage of the model put out, under the original's names and in its shapes."""

    arrays: dict[str, Array] = field(default_factory=dict)
    outputs: RawOutputs | None = None
    found: list[ScoredBoxes] = field(default_factory=list)


def run_stages(model: GLIP, case: Case, dtype: torch.dtype = torch.float32) -> Stages:
    """Runs the model, whose weights are of `dtype`, on a case and keeps every stage."""
    stages, batch = Stages(), case.batch()
    keep = stages.arrays
    keep["input"] = batch.pixels.numpy()
    count = len(batch.sizes_hw)
    assert isinstance(model.backbone, Backbone)
    handles = [
        model.backbone.stages[0].register_forward_hook(
            lambda _m, _i, out: keep.update(swin_C2=out[0].permute(0, 3, 1, 2).numpy())
        ),
        model.backbone.register_forward_hook(
            lambda _m, _i, out: keep.update({f"swin_C{k}": x.numpy() for k, x in enumerate(out, 3)})
        ),
        model.neck.register_forward_hook(lambda _m, _i, out: keep.update(_maps("fpn", out))),
        model.text_encoder.register_forward_hook(
            lambda _m, _i, out: keep.update(lang_hidden=out.hidden.expand(count, -1, -1).numpy())
        ),
    ]
    for index, block in enumerate(model.fusion.blocks):
        handles += _block_hooks(block, index, keep)
    with torch.inference_mode():
        outputs = stages.outputs = model(batch.pixels.to(dtype), case.input_ids)
        stages.found = select(outputs, case.positive_map.to(dtype), list(batch.sizes_hw))
    for handle in handles:
        handle.remove()
    # With the text trimmed to its tokens there is no padding to mask: embedded and hidden are equal.
    keep["lang_embedded"] = keep["lang_hidden"]
    keep.update(_head(outputs, [keep[f"fpn_{level}"].shape for level in LEVELS]))
    for index, found in enumerate(stages.found):
        keep[f"det{index}_boxes"], keep[f"det{index}_scores"] = found.boxes.numpy(), found.scores.numpy()
        keep[f"det{index}_labels"] = found.labels.numpy() + 1
    return stages


def _maps(prefix: str, maps: list[Tensor]) -> dict[str, Array]:
    return {f"{prefix}_{level}": x.numpy() for level, x in zip(LEVELS, maps, strict=True)}


def _block_hooks(block: Any, index: int, keep: dict[str, Array]) -> list[Any]:
    def after_dyhead(_module: object, _inputs: object, out: Any) -> None:
        keep.update(_maps(f"dyconv{index}", out[0]))
        hidden = out[1].hidden
        keep[f"dyconv{index}_hidden"] = hidden.expand(out[0][0].shape[0], -1, -1).numpy()

    handles = [block.register_forward_hook(after_dyhead)]
    if not block.deep_fusion:
        return handles

    def after_fusion(_module: object, _inputs: object, out: Any) -> None:
        places, start = out[0].numpy(), 0
        for level in LEVELS:
            batch, channels, height, width = keep[f"fpn_{level}"].shape
            rows = places[:, start : start + height * width]
            maps = rows.transpose(0, 2, 1).reshape(batch, channels, height, width)
            # The text layer leaves the maps as they are.
            keep[f"fuse{index}_{level}"] = keep[f"bert{index}_{level}"] = maps
            start += height * width
        keep[f"fuse{index}_hidden"] = out[1].numpy()

    def after_text(_module: object, _inputs: object, out: Tensor) -> None:
        keep[f"bert{index}_hidden"] = out.numpy()

    return [
        *handles,
        block.fuse.register_forward_hook(after_fusion),
        block.text.register_forward_hook(after_text),
    ]


def _head(outputs: RawOutputs, shapes: list[tuple[int, ...]]) -> dict[str, Array]:
    result: dict[str, Array] = {}
    start = 0
    for level, shape in zip(LEVELS, shapes, strict=True):
        batch, _, height, width = shape
        rows = slice(start, start + height * width)
        start = rows.stop
        deltas = outputs.deltas[:, rows].transpose(1, 2)
        result[f"bbox_reg_{level}"] = deltas.reshape(batch, 4, height, width).numpy()
        result[f"centerness_{level}"] = outputs.centerness[:, rows].reshape(batch, 1, height, width).numpy()
        result[f"token_logits_{level}"] = outputs.alignment[:, rows].numpy()
        result[f"anchors_{level}"] = outputs.anchors[rows].numpy()
    return result


def deviations(case: Case, arrays: dict[str, Array]) -> dict[str, tuple[float, float]]:
    """Per stage of the case, relative L2 error and largest difference; every stage of the case must be there."""
    result = {}
    for name, info in case.meta["arrays"].items():
        ours = arrays[name]
        assert list(ours.shape) == info["shape"], f"{name}: {ours.shape}, golden {info['shape']}"
        sampled = ours.reshape(-1)[:: info["stride"]].astype(np.float64)
        golden = case.arrays[name].astype(np.float64).reshape(-1)
        difference = sampled - golden
        result[name] = (float(np.linalg.norm(difference) / np.linalg.norm(golden)), float(np.abs(difference).max()))
    return result


@dataclass(frozen=True)
class Partner:
    """How far a golden detection is from ours of the same label that is nearest."""

    pixels: float
    score: float


def partners(case: Case, arrays: dict[str, Array], image: int) -> list[Partner]:
    """Pairs golden detections with ours one to one, each with the nearest of its label that is still free."""
    boxes, scores, labels = (arrays[f"det{image}_{part}"] for part in ("boxes", "scores", "labels"))
    golden = [case.arrays[f"det{image}_{part}"] for part in ("boxes", "scores", "labels")]
    free, result = np.ones(len(scores), bool), []
    for box, score, label in zip(*golden, strict=True):
        candidates = np.flatnonzero(free & (labels == label))
        assert len(candidates), f"no detection is left for golden label {label}"
        pixels = np.abs(boxes[candidates] - box).max(1)
        nearest = int(np.argmin(pixels + 1000 * np.abs(scores[candidates] - score)))
        free[candidates[nearest]] = False
        result.append(Partner(float(pixels[nearest]), float(abs(scores[candidates[nearest]] - score))))
    return result

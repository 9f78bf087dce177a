"""Scores a model that is being tuned on a split: the same boxes and numbers as `glip eval` gives, without files.

Where the mode freezes what is seen of an image, that is computed once for all validations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from glip.data.splits import OpenSplit
from glip.detections import Detections
from glip.detectors.glip import Detector
from glip.evaluation.inference import within
from glip.evaluation.predictions import Predictions
from glip.evaluation.results import SetResult
from glip.evaluation.tasks.detection import score_set
from glip.images import ImageBatch, collate, prepare, read_image
from glip.model.glip import GLIP
from glip.prompts import Prompt, PromptSet
from glip.training.feature_cache import FeatureStore

MOST = 100  # boxes an image, as in all published numbers


class Scorer:
    """Looks at the images of one split."""

    def __init__(
        self,
        opened: OpenSplit,
        tokenizer: Tokenizer,
        imgsz: int,
        *,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        store: FeatureStore | None = None,
    ) -> None:
        """Prepares the question.

        Args:
            opened: the split.
            tokenizer: the model's.
            imgsz: short side in pixels that images are resized to.
            precision: of the model's arithmetic.
            store: keeps what is seen of the images, where that does not change; None: look each time.

        Raises:
            InputError: a class cannot be asked for.
        """
        self._opened, self._tokenizer, self._imgsz = opened, tokenizer, imgsz
        self._precision, self._store = precision, store
        self.prompts: Sequence[Prompt] = PromptSet.from_names(opened.names, tokenizer, None, opened.wordings).for_image(
            ""
        )
        self._prepared: dict[Path, ImageBatch] = {}

    def score(self, model: GLIP) -> SetResult:
        """The split's numbers, in percent.

        Raises:
            InputError: an image cannot be read.
        """
        return score_set(self._opened, self.predict(model), MOST).result

    def predict(self, model: GLIP) -> Predictions:
        """The boxes of all images."""
        image_ids, labels, boxes, scores = [], [], [], []
        classes = np.asarray(self._opened.category_ids, np.int64)
        with borrowed(model, self._tokenizer, self._imgsz, self._precision) as detector:
            for path, ids in self._opened.ids_of_image.items():
                found = self._detect(detector, path)
                count = within(found.scores, MOST)
                for id in ids:
                    image_ids.append(np.full(count, id, np.int64))
                    labels.append(classes[found.labels[:count]])
                    boxes.append(found.boxes[:count].astype(np.float64))
                    scores.append(found.scores[:count].astype(np.float64))
        if not image_ids:
            return Predictions.none()
        bbox = np.concatenate(boxes).reshape(-1, 4)
        bbox[:, 2:] -= bbox[:, :2]
        return Predictions(np.concatenate(image_ids), np.concatenate(labels), bbox, np.concatenate(scores))

    def detect(self, model: GLIP, paths: Sequence[Path]) -> list[tuple[Image.Image, Detections]]:
        """Some images with their boxes."""
        with borrowed(model, self._tokenizer, self._imgsz, self._precision) as detector:
            return [(read_image(path), self._detect(detector, path)) for path in paths]

    def _detect(self, detector: Detector, path: Path) -> Detections:
        batch = self._prepared.get(path)
        maps: list[Tensor] | None = None
        key = hashlib.blake2b(
            f"{path}|{self._imgsz}|{self._precision}".encode(errors="replace"), digest_size=16
        ).hexdigest()
        if self._store is not None and batch is not None:
            maps = self._store.get(key, detector.device)
        if maps is None or batch is None:
            batch = collate([prepare(read_image(path), self._imgsz)])
            maps = detector.look(batch)
            if self._store is not None:
                self._store.put(key, maps)
                batch = replace(batch, rgb=torch.empty(0))
                self._prepared[path] = batch
        return detector.detect_in(maps, batch, self.prompts)[0]


@contextmanager
def borrowed(
    model: GLIP, tokenizer: Tokenizer, imgsz: int, precision: Literal["fp32", "bf16", "fp16"] = "fp32"
) -> Iterator[Detector]:
    """A detector of a model that learns; afterwards the model learns on as before."""
    learning = [value for value in model.parameters() if value.requires_grad]
    place = next(model.parameters()).device
    device = str(place) if place.type == "cuda" else place.type
    try:
        yield Detector(model, tokenizer, name="", sha256="", device=device, precision=precision, imgsz=imgsz)
    finally:
        for value in learning:
            value.requires_grad_(True)

"""Scores a model during training: on a split of a data set, and on synthetic scenes of other things.

A split gets the same boxes and scores as `glip eval` gives, without files. Where the tuning mode freezes the image
features, they are computed once for all validations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from tokenizers import Tokenizer

from glip.data.annotations import Truth
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.data.splits import OpenSplit, Split
from glip.data.synthetic import SceneMaker, load_pool
from glip.detections import Detections
from glip.detectors.glip import Detector
from glip.errors import InputError
from glip.evaluation.tasks.detection import score_detections
from glip.images import ImageBatch, collate, prepare, read_image
from glip.model.glip import GLIP
from glip.prompts import Prompt, PromptSet, tokenize
from glip.training.feature_cache import FeatureStore

if TYPE_CHECKING:
    from glip.evaluation.results import SetResult

# Synthetic scenes that measure forgetting: other scenes than those of pre-training, of the same things.
SCENE_SEED = 7
SCENE_NAMES = 400  # the simplest ones: those that `glip pretrain --preset nano` trains on
SCENE_SHAPES = 0.5  # fraction of geometric shapes among the objects
SCENE_SIDES = ((160, 160), (320, 320))  # minimum and maximum (width, height) in pixels


class Scorer:
    """Runs models on the images of one split and scores them."""

    def __init__(
        self,
        opened: OpenSplit,
        tokenizer: Tokenizer,
        imgsz: int,
        *,
        precision: str = "fp32",
        store: FeatureStore | None = None,
    ) -> None:
        """Prepares the prompts.

        Args:
            opened: the split.
            tokenizer: the model's.
            imgsz: short side in pixels that images are resized to.
            precision: of the model's arithmetic.
            store: keeps image features between calls. Pass one only if the models differ in their other parts alone.

        Raises:
            InputError: the model cannot read a class name.
        """
        self._opened, self._tokenizer, self._imgsz = opened, tokenizer, imgsz
        self._precision, self._store = precision, store
        names = PromptSet.from_names(opened.names, tokenizer, None, opened.wordings)
        self.prompts: Sequence[Prompt] = names.chunks
        self._prepared: dict[Path, ImageBatch] = {}

    def score(self, model: GLIP) -> SetResult:
        """Returns the scores of the split, in percent.

        Raises:
            InputError: an image cannot be read.
        """
        return score_detections(self._opened, self.predict(model))

    def predict(self, model: GLIP) -> dict[int, Detections]:
        """Returns the boxes of all images by image id; labels are indices of the split's names."""
        found: dict[int, Detections] = {}
        with borrowed(model, self._tokenizer, self._imgsz, self._precision) as detector:
            for path, ids in self._opened.ids_of_image.items():
                found |= dict.fromkeys(ids, self._detect(detector, path))
        return found

    def detect(self, model: GLIP, paths: Sequence[Path]) -> list[tuple[Image.Image, Detections]]:
        """Returns some of the images with their boxes."""
        with borrowed(model, self._tokenizer, self._imgsz, self._precision) as detector:
            return [(read_image(path), self._detect(detector, path)) for path in paths]

    def _detect(self, detector: Detector, path: Path) -> Detections:
        batch = self._prepared.get(path)
        key = self._key(path)
        maps = None if self._store is None or batch is None else self._store.get(key, detector.device)
        if maps is None or batch is None:
            batch = collate([prepare(read_image(path), self._imgsz)])
            maps = detector.encode_images(batch)
            if self._store is not None:
                self._store.put(key, maps)
                batch = replace(batch, rgb=torch.empty(0))  # only the sizes are needed from here on
                self._prepared[path] = batch
        return detector.detect_encoded(maps, batch, self.prompts)[0]

    def _key(self, path: Path) -> str:
        text = f"{path}|{self._imgsz}|{self._precision}"
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()


@contextmanager
def borrowed(model: GLIP, tokenizer: Tokenizer, imgsz: int, precision: str = "fp32") -> Iterator[Detector]:
    """Yields a detector around a model in training; afterwards the same parameters are trainable as before."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    device = next(model.parameters()).device
    name = str(device) if device.type == "cuda" else device.type
    try:
        yield Detector(model, tokenizer, name="", sha256="", device=name, precision=precision, imgsz=imgsz)
    finally:
        for value in trainable:
            value.requires_grad_(True)


def scene_score(model: GLIP, tokenizer: Tokenizer, imgsz: int, scenes: int = 100) -> float | None:
    """Returns the AP in percent on synthetic scenes, which shows what fine-tuning has forgotten.

    Each scene is prompted with its own names, some of which are absent. A pair of scene and name counts as one image
    with one class, so that all pairs share one ranking: a model that detects one thing everywhere scores low.

    Args:
        model: comes back unchanged.
        tokenizer: the model's.
        imgsz: short side in pixels that scenes are resized to.
        scenes: number of scenes.

    Returns:
        None if the model cannot read the names of any scene.
    """
    maker = SceneMaker.of_split(load_pool().simplest(SCENE_NAMES), "seen", SCENE_SEED, SCENE_SHAPES)
    pairs = _ScenePairs()
    with borrowed(model, tokenizer, imgsz) as detector:
        for index in range(scenes):
            scene = maker.scene(index, maker.size_wh(index, *SCENE_SIDES))
            names = maker.names(index, scene)
            try:
                prompt = Prompt.from_names([name.name for name in names])
                tokenize(prompt, tokenizer)
            except InputError:  # a vocabulary of other words, or of fewer tokens than the list needs
                continue
            found = detector.detect_batch(collate([prepare(scene.image, imgsz)]), [prompt])[0]
            for label, name in enumerate(names):
                boxes = [scene.objects[thing].box_xywh for thing in name.objects]
                pairs.add(scene.image.size, boxes, found.filter(found.labels == label))
    return pairs.score()


@dataclass
class _ScenePairs:
    """Pairs of a scene and a name, as images with one class."""

    images: list[CocoImage] = field(default_factory=list)
    boxes: list[CocoAnnotation] = field(default_factory=list)
    found: dict[int, Detections] = field(default_factory=dict)

    def add(self, size_wh: tuple[int, int], boxes_xywh: Sequence[Sequence[float]], found: Detections) -> None:
        id = len(self.images) + 1
        self.images.append(CocoImage(id, str(id), *size_wh))
        for left, top, width, height in boxes_xywh:
            bbox = (float(left), float(top), float(width), float(height))
            self.boxes.append(CocoAnnotation(len(self.boxes) + 1, id, 1, bbox))
        self.found[id] = replace(found, labels=found.labels * 0)

    def score(self) -> float | None:
        if not self.boxes:
            return None
        dataset = CocoDataset(tuple(self.images), tuple(self.boxes), (CocoCategory(1, "named"),))
        split = Split("scenes", "", "coco", Path(), ())
        opened = OpenSplit(split, Truth.from_coco(dataset), ("named",), (1,), None, ())
        return score_detections(opened, self.found).numbers["AP"]

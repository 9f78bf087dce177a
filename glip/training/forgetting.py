"""What tuning has cost: how well a model still finds other things, on synthetic scenes that are the same each time.

Every scene is asked for its own list of names, right and wrong. A pair of scene and name counts as one image of one
class, so that all pairs share one ranking: a model that has learned to see one thing everywhere loses here.
"""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

from glip.data.annotations import Truth
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.data.synthetic import SceneMaker, load_pool
from glip.errors import InputError
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.predictions import Predictions
from glip.evaluation.results import percent
from glip.images import collate, prepare
from glip.model.glip import GLIP
from glip.prompts import Prompt, tokenize
from glip.training.validation import borrowed

SEED = 7  # no scenes of a training run
NAMES = 400  # the simplest ones: those that `glip pretrain --preset nano` shows
SHAPES = 0.5
SIDES = ((160, 160), (320, 320))


def scene_score(
    model: GLIP, tokenizer: Tokenizer, imgsz: int, scenes: int = 100, *, names: int | None = NAMES
) -> float | None:
    """AP in percent on scenes of things that pre-training shows, in other scenes; None if nothing could be asked.

    Args:
        model: any; comes back as it was.
        tokenizer: its own.
        imgsz: short side in pixels that scenes are resized to.
        scenes: how many.
        names: so many of the simplest names of images; None: all.
    """
    pool = load_pool()
    maker = SceneMaker.of_split(pool if names is None else pool.simplest(names), "seen", SEED, SHAPES)
    images: list[CocoImage] = []
    truth: list[CocoAnnotation] = []
    found_ids, boxes, scores = [], [], []
    with borrowed(model, tokenizer, imgsz) as detector:
        for index in range(scenes):
            scene = maker.scene(index, maker.size_wh(index, *SIDES))
            asked = maker.names(index, scene)
            try:
                prompt = Prompt.from_names([name.name for name in asked])
                tokenize(prompt, tokenizer)
            except InputError:  # a vocabulary of other words, or of fewer tokens than the list needs
                continue
            found = detector.detect(collate([prepare(scene.image, imgsz)]), [prompt])[0]
            first = len(images) + 1
            for place, name in enumerate(asked):
                images.append(CocoImage(first + place, f"{first + place}", scene.image.width, scene.image.height))
                for thing in name.objects:
                    left, top, width, height = (float(value) for value in scene.objects[thing].box_xywh)
                    truth.append(CocoAnnotation(len(truth) + 1, first + place, 1, (left, top, width, height)))
            found_ids.append(first + found.labels)
            boxes.append(found.boxes.astype(np.float64))
            scores.append(found.scores.astype(np.float64))
    if not truth:
        return None
    bbox = np.concatenate(boxes).reshape(-1, 4)
    bbox[:, 2:] -= bbox[:, :2]
    ids = np.concatenate(found_ids).astype(np.int64)
    predictions = Predictions(ids, np.ones(len(ids), np.int64), bbox, np.concatenate(scores))
    dataset = CocoDataset(tuple(images), tuple(truth), (CocoCategory(1, "asked"),))
    return percent(coco_scores(Truth.from_coco(dataset), predictions).ap())

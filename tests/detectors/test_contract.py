"""The contract of `ObjectDetector`: every detector passes these tests. A new one is one more line in `DETECTORS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.detectors.base import DetectionLimits, ObjectDetector
from glip.detectors.glip import Detector
from glip.errors import InputError
from glip.images import PreparedImage
from glip.prompts import Prompt, Wording
from tests.labeling.fake import FakeDetector
from tests.tiny import letters_tokenizer, tiny_model


def glip_detector() -> ObjectDetector:
    return Detector(tiny_model(), letters_tokenizer(), name="tiny", sha256="0" * 64, device="cpu")


DETECTORS: dict[str, Callable[[], ObjectDetector]] = {"glip": glip_detector, "fake": FakeDetector}
IMGSZ = 64
NAMES = ("dog", "car", "person")


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> ObjectDetector:
    return DETECTORS[request.param]()


def image(seed: int = 0, width: int = 120, height: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prepared(detector: ObjectDetector, seeds: Sequence[int] = (0, 1, 2)) -> list[PreparedImage]:
    return [detector.prepare(image(seed), IMGSZ) for seed in seeds]


def assert_close(one: Detections, other: Detections) -> None:
    assert len(one) == len(other)
    assert one.names == other.names
    assert np.allclose(one.scores, other.scores, atol=1e-5)
    assert np.allclose(one.boxes, other.boxes, atol=1e-2)


def test_attributes_describe_the_detector(detector: ObjectDetector) -> None:
    assert detector.name and len(detector.sha256) == 64
    assert detector.precision in ("fp32", "bf16", "fp16")
    assert detector.imgsz >= 32 and 0 <= detector.conf <= 1
    assert detector.nms_iou is None or 0 < detector.nms_iou <= 1
    assert detector.max_tokens > 10
    assert detector.score_rule
    assert detector.device.type in ("cpu", "cuda", "mps")


def test_names_become_prompts_in_their_order(detector: ObjectDetector) -> None:
    prompts = detector.prompts_for(NAMES)
    assert tuple(phrase for prompt in prompts for phrase in prompt.phrases) == NAMES
    divided = detector.prompts_for(NAMES, names_per_prompt=2)
    assert [len(prompt.phrases) for prompt in divided] == [2, 1]
    (worded,) = detector.prompts_for(("dog",), wordings=(Wording("car", "a "),))
    assert worded.phrases == ("dog",)
    assert [worded.caption[start:end] for ((start, end),) in worded.spans] == ["car"]


def test_a_long_list_fits_into_prompts_that_the_model_can_read(detector: ObjectDetector) -> None:
    names = NAMES * 100
    prompts = detector.prompts_for(names)
    assert len(prompts) > 1
    assert sum(len(prompt.phrases) for prompt in prompts) == len(names)
    assert all(0 < detector.count_tokens(prompt) <= detector.max_tokens for prompt in prompts)


def test_a_prompt_that_is_too_long_is_refused(detector: ObjectDetector) -> None:
    prompt = Prompt.from_caption("dog " * detector.max_tokens * 2, [[(0, 3)]])
    with pytest.raises(InputError, match=str(detector.max_tokens)):
        detector.count_tokens(prompt)


def test_no_name_is_refused(detector: ObjectDetector) -> None:
    with pytest.raises(InputError):
        detector.prompts_for(())


def test_an_image_is_prepared_at_the_announced_size(detector: ObjectDetector) -> None:
    ready = detector.prepare(image(), IMGSZ)
    assert ready.size_hw == (90, 120)
    assert ready.resized_hw == detector.resized_hw((90, 120), IMGSZ)
    reduced = detector.prepare(image(width=60, height=45), IMGSZ, (90, 120))
    assert (reduced.size_hw, reduced.resized_hw) == (ready.size_hw, ready.resized_hw)


def test_detections_lie_in_the_original_image_best_first(detector: ObjectDetector) -> None:
    images = prepared(detector, range(6))
    found = detector.detect(images, detector.prompts_for(NAMES), DetectionLimits(0.05))
    assert len(found) == 6 and sum(map(len, found)) > 0
    for detections in found:
        assert detections.names == NAMES
        assert (np.diff(detections.scores) <= 0).all()
        assert (detections.boxes >= -3).all()
        assert (detections.boxes <= np.array([120, 90, 120, 90]) + 3).all()


def test_images_with_equal_keys_can_share_a_batch(detector: ObjectDetector) -> None:
    images = prepared(detector)
    assert len({detector.batch_key(one) for one in images}) == 1
    prompts, limits = detector.prompts_for(NAMES), DetectionLimits(0.05)
    together = detector.detect(images, prompts, limits)
    for one, other in zip(images, together, strict=True):
        (alone,) = detector.detect([one], prompts, limits)
        assert_close(alone, other)


def test_labels_count_through_all_prompts(detector: ObjectDetector) -> None:
    images = prepared(detector)
    prompts = detector.prompts_for(NAMES, names_per_prompt=1)
    found = detector.detect(images, prompts, DetectionLimits(0.05, max_detections=None))
    assert all(detections.names == NAMES for detections in found)
    assert len({label for detections in found for label in detections.labels.tolist()}) > 1


def test_the_floor_is_a_minimum_that_keeps_the_order(detector: ObjectDetector) -> None:
    (found,) = detector.detect(prepared(detector, (5,)), detector.prompts_for(NAMES), DetectionLimits(0.05))
    for floor in (0.3, 0.7, 1.0):
        kept = detector.apply_floor(found, floor)
        assert kept.scores.tolist() == found.scores[found.scores >= np.float32(floor)].tolist()


def test_predict_takes_images_of_any_size_in_any_batch(detector: ObjectDetector) -> None:
    images = [image(0), image(1, 60, 200), image(2), image(3)]
    alone = detector.predict(images, list(NAMES), imgsz=IMGSZ)
    together = detector.predict(images, " . ".join(NAMES), imgsz=IMGSZ, batch_size=3)
    for one, other in zip(alone, together, strict=True):
        assert_close(one, other)


def test_predict_notes_the_file_and_the_size_of_each_image(detector: ObjectDetector, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image(0, 60, 200).save(path)
    found = detector.predict([path, str(path), image(1)], "dog", imgsz=IMGSZ)
    assert [one.path for one in found] == [path, path, None]
    assert [one.size_hw for one in found] == [(200, 60), (200, 60), (90, 120)]


def test_predict_says_what_to_do_with_a_folder(detector: ObjectDetector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(repr(str(tmp_path)))):
        detector.predict(tmp_path, "dog", imgsz=IMGSZ)


@pytest.mark.parametrize(("change", "named"), [({"score_threshold": 1.5}, "1.5"), ({"batch_size": 0}, "batch_size")])
def test_predict_refuses_a_number_out_of_range(detector: ObjectDetector, change: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        detector.predict(image(), "dog", imgsz=IMGSZ, **change)  # type: ignore[arg-type]

"""A job that asks each image for its own caption, and one that looks at images in tiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glip.data.grounding import load_grounding
from glip.detections import Detections
from glip.detectors.spec import InferenceOptions
from glip.errors import InputError
from glip.images import ImageBatch, ImageFile, list_images
from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.image_prompts import CaptionSource, ClassList, PromptsByImage, join_prompts, resolve_prompts
from glip.labeling.job import LabelJob, label
from glip.labeling.plan import plan_label
from glip.labeling.records import read_records, read_run
from glip.labeling.tiling import Tiling
from glip.prompts import Prompt, Wording
from tests.labeling.fake import FakeDetector, make_images

RED = (200, 0, 0)


def write_captions(path: Path, **captions: str) -> None:
    lines = [json.dumps({"file_name": f"{name}.png", "caption": text}) for name, text in captions.items()]
    path.write_text("\n".join(lines))


@pytest.fixture
def job(tmp_path: Path) -> LabelJob:
    """Three images, two of them with captions."""
    make_images(tmp_path / "in", 3)
    write_captions(tmp_path / "c.jsonl", p0="a dog and a person", p1="a car and another car")
    return LabelJob(
        sources=(str(tmp_path / "in"),),
        out=tmp_path / "out",
        options=InferenceOptions(32),
        conf=0.05,
        prompts=CaptionSource(str(tmp_path / "c.jsonl"), phrases=("a dog", "a person", "car")),
        report=False,
    )


def test_each_image_is_asked_for_its_own_phrases(job: LabelJob) -> None:
    summary = label(job, detector=FakeDetector())
    assert summary.failed == 1
    records = {record.file_name: record for record in read_records(job.out)}
    assert records["p0.png"].names == ["a dog", "a person"]
    assert records["p0.png"].caption == "a dog and a person"
    assert records["p1.png"].names == ["car", "car"]
    assert "no caption" in (records["p2.png"].error or "")
    assert read_run(job.out).names == ()


def test_captions_come_out_as_grounding_data_with_spans_and_boxes(job: LabelJob) -> None:
    label(job, detector=FakeDetector())
    records = [record for record in read_records(job.out) if record.error is None]
    data = load_grounding(job.out / "grounding.json")
    assert [image.caption for image in data.images] == ["a dog and a person", "a car and another car"]
    assert [len(boxes) for boxes in data.boxes_by_caption().values()] == [len(record.boxes) for record in records]
    for image, record in zip(data.images, records, strict=True):
        found = sorted(data.boxes_by_caption()[image.id], key=lambda box: -float(box.score))  # type: ignore[arg-type]
        for box, label_, corners in zip(found, record.labels, record.boxes, strict=True):
            start, end = box.tokens_positive[0]
            assert image.caption[start:end] == (record.names or ())[label_]
            assert box.tokens_positive == tuple(tuple(span) for span in record.spans[label_])
            assert box.bbox[0] == pytest.approx(corners[0])


def test_a_changed_caption_is_asked_again_and_no_other(job: LabelJob, tmp_path: Path) -> None:
    label(job, detector=FakeDetector())
    write_captions(tmp_path / "c.jsonl", p0="a dog and a person", p1="a dog beside a car", p2="a person")
    summary = label(job, detector=FakeDetector())
    assert (summary.labelled, summary.earlier, summary.failed) == (2, 1, 0)
    captions = [record.caption for record in read_records(job.out)]
    assert captions == ["a dog and a person", "a dog beside a car", "a person"]


def test_captions_and_a_class_list_do_not_mix_in_one_folder(job: LabelJob) -> None:
    label(job, detector=FakeDetector())
    other = replace(job, prompts=("dog",))
    with pytest.raises(InputError, match=r"\[\].*\[\"dog\"\]"):
        label(other, detector=FakeDetector())


def test_grounding_of_a_class_list_is_refused(job: LabelJob, tmp_path: Path) -> None:
    label(replace(job, prompts=("dog",)), detector=FakeDetector())
    with pytest.raises(InputError, match="no captions to ground"):
        export(job.out, tmp_path, ["grounding"], ExportSettings())
    assert not (tmp_path / "grounding.json").exists()


def test_a_class_list_has_no_marks(job: LabelJob) -> None:
    prompts = resolve_prompts(("dog",), FakeDetector(), list_images(job.sources))
    assert prompts.mark("p0.png") == ""
    assert not prompts.by_caption


def test_the_plan_counts_captions_and_what_cannot_be_asked(job: LabelJob) -> None:
    plan = plan_label(job, detector=FakeDetector())
    assert (plan.images, plan.captions, plan.skipped, plan.names) == (3, 2, 1, ())
    assert plan.prompts[0].caption == "a dog and a person"
    assert not job.out.exists()


@dataclass
class RedDetector(FakeDetector):
    """Finds the rectangle around everything red, where it is large enough after resizing."""

    least: int = 12

    def detect_batch(self, batch: ImageBatch, prompts: Sequence[Prompt]) -> list[Detections]:
        self.batches.append(len(batch.sizes_hw))
        names = tuple(phrase for prompt in prompts for phrase in prompt.phrases)
        return [
            self._find(batch.pixels[i, :, :h, :w].numpy(), batch.scales[i], names)
            for i, (h, w) in enumerate(batch.sizes_hw)
        ]

    def _find(self, pixels: NDArray[np.float32], scale: tuple[float, float], names: tuple[str, ...]) -> Detections:
        y, x = np.nonzero((pixels[2] > 0) & (pixels[0] < 0))
        if not len(x) or max(np.ptp(x), np.ptp(y)) + 1 < self.least:
            return Detections.empty(names)
        box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32) * np.array([*scale, *scale])
        return Detections(box.astype(np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64), names)


@pytest.fixture
def tiled(tmp_path: Path) -> LabelJob:
    """A large image with one small red square, and one that is smaller than a tile."""
    (tmp_path / "in").mkdir()
    for name, size, at in (("large", (640, 480), (300, 200, 320, 220)), ("small", (100, 80), (10, 10, 40, 40))):
        image = Image.new("RGB", size, (90, 90, 90))
        image.paste(RED, at)
        image.save(tmp_path / "in" / f"{name}.png")
    return LabelJob(
        sources=(str(tmp_path / "in"),),
        prompts=("dog",),
        out=tmp_path / "out",
        options=InferenceOptions(96, 4),
        tiling=Tiling(128, 0.2),
        report=False,
    )


def test_tiles_find_what_is_too_small_in_the_whole_image(tiled: LabelJob, tmp_path: Path) -> None:
    whole = replace(tiled, tiling=None, out=tmp_path / "whole")
    label(whole, detector=RedDetector())
    assert [len(record.boxes) for record in read_records(whole.out)] == [0, 1]
    label(tiled, detector=RedDetector())
    large, small = read_records(tiled.out)
    assert len(large.boxes) == len(small.boxes) == 1
    assert large.boxes[0] == pytest.approx((300, 200, 320, 220), abs=2.5)
    assert small.boxes[0] == pytest.approx((10, 10, 40, 40), abs=2.5)
    assert (large.width, large.height) == (640, 480)


def test_tiles_share_batches(tiled: LabelJob) -> None:
    detector = RedDetector()
    label(tiled, detector=detector)
    # 7 x 5 tiles of equal size in batches of 4, the whole of each image by itself.
    assert sum(detector.batches) == 7 * 5 + 2
    assert detector.batches.count(4) == 8


def test_a_folder_holds_labels_of_one_tiling(tiled: LabelJob) -> None:
    label(tiled, detector=RedDetector())
    with pytest.raises(InputError, match="tiling was tiles of 128"):
        label(replace(tiled, tiling=None), detector=RedDetector())


def test_the_plan_counts_views(tiled: LabelJob) -> None:
    plan = plan_label(tiled, detector=RedDetector())
    assert plan.views == pytest.approx((36 + 1) / 2)


def test_a_trial_that_takes_long_ends_after_one_image(job: LabelJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glip.labeling.plan.LONG_TRIAL", 0.05)
    slow = FakeDetector(delay=0.1)
    plan = plan_label(replace(job, prompts=("dog",)), detector=slow)
    assert len(slow.batches) == 1
    assert plan.seconds_per_image == pytest.approx(0.1, abs=0.5)


A, B = ImageFile(Path("/a.png"), "a.png"), ImageFile(Path("/b.png"), "b.png")
PATH_A, PATH_B = Path("/a.png"), Path("/b.png")
DOG, PERSON = Prompt.from_names(["dog"]), Prompt.from_caption("a person", [[(2, 8)]])


def test_names_are_divided_into_prompts_of_a_maximum_length() -> None:
    plan = ClassList(("person", "dog", "car"), names_per_prompt=2)
    prompts = resolve_prompts(plan, FakeDetector(), [A])
    assert [prompt.caption for prompt in prompts.shared] == ["person. dog", "car"]
    assert not prompts.by_caption and prompts.of("a.png") == prompts.shared


def test_worded_names_stand_in_the_caption_as_given() -> None:
    plan = ClassList(("hand",), (Wording("hat", " ", " of a person"),))
    (prompt,) = resolve_prompts(plan, FakeDetector(), [A]).shared
    assert (prompt.caption, prompt.phrases, prompt.spans) == (" hat of a person", ("hand",), (((1, 4),),))


def test_an_image_may_have_several_prompts_of_its_own() -> None:
    plan = PromptsByImage({PATH_A: (DOG, PERSON), PATH_B: (PERSON,)})
    prompts = resolve_prompts(plan, FakeDetector(), [A, B])
    assert prompts.by_caption and prompts.of("a.png") == (DOG, PERSON) and prompts.of("b.png") == (PERSON,)
    assert prompts.mark("a.png") != prompts.mark("b.png")


def test_an_image_with_a_prompt_that_is_too_long_is_skipped() -> None:
    long = Prompt.from_caption("dog " * 300, [[(0, 3)]])
    prompts = resolve_prompts(PromptsByImage({PATH_A: (DOG, long), PATH_B: (PERSON,)}), FakeDetector(), [A, B])
    assert "256" in str(prompts.of("a.png"))
    assert prompts.of("b.png") == (PERSON,)


def test_images_may_have_class_lists_of_their_own() -> None:
    plan = PromptsByImage({PATH_A: ClassList(("dog", "car")), PATH_B: ClassList(("person",))})
    prompts = resolve_prompts(plan, FakeDetector(), [A, B])
    captions = [[prompt.caption for prompt in prompts.by_image[name]] for name in ("a.png", "b.png")]
    assert captions == [["dog. car"], ["person"]]


def test_several_captions_are_joined_into_one_text_with_all_ranges() -> None:
    joined = join_prompts([PERSON, DOG])
    assert (joined.caption, joined.phrases) == ("a person\ndog", ("person", "dog"))
    assert [joined.caption[start:end] for ((start, end),) in joined.spans] == ["person", "dog"]
    assert join_prompts([PERSON]) == PERSON


def test_no_name_is_refused() -> None:
    with pytest.raises(InputError):
        resolve_prompts((), FakeDetector(), [A])


def test_the_mark_of_an_image_is_that_of_0_1_0() -> None:
    """Stamps of records contain it: with another mark every image of an old folder would be labelled again."""
    prompts = resolve_prompts(PromptsByImage({PATH_A: (DOG, PERSON)}), FakeDetector(), [A])
    assert prompts.mark("a.png") == "-0829ee732b204657"

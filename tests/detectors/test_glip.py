"""From images and a prompt to detections on the original image."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from glip.detectors.glip import Detector, choose_device
from glip.detectors.spec import load_detector
from glip.errors import GlipError, InputError
from glip.images import ImageBatch, ImageInput, collate, prepare
from glip.model.glip import RawOutputs
from glip.model.postprocess import PUBLISHED, Selection, select
from glip.model.text import TextFeatures
from glip.prompts import Prompt, PromptSet, tokenize
from glip.weights.random_weights import random_model
from glip.weights.zoo import TINY
from tests.golden.cases import Array, Case, formula_image, partners
from tests.golden.models import golden_model
from tests.golden.weights import FOLDER as GOLDEN
from tests.tiny import letters_tokenizer, tiny_model


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(tiny_model(), letters_tokenizer(), name="tiny", sha256="0" * 64, device="cpu")


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """Just the pieces that the golden caption needs, with their published ids; all others are fillers."""
    meta = Case.read(GOLDEN, "A_formula_six").meta
    text = "[CLS] traffic light . fire hydra ##nt . cat . coffee cup . teddy bear . pot ##ted plant [SEP]"
    spelled = text.split()
    ids = {0: "[PAD]", 100: "[UNK]", **dict(zip(meta["input_ids"], spelled, strict=True))}
    pieces = {ids.get(index, f"filler{index}"): index for index in range(30522)}
    return Tokenizer.from_str(BertWordPieceTokenizer(pieces, lowercase=True).to_str())


def image(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_boxes_are_those_of_the_network_moved_to_the_original_image(detector: Detector) -> None:
    opened = image(200, 100)
    prepared = prepare(opened, 64)
    batch = collate([prepared])
    prompt = Prompt.from_names(["cat", "dog"])
    tokens = tokenize(prompt, detector.tokenizer)
    with torch.inference_mode():
        outputs = detector._model(batch.pixels, tokens.input_ids[None])
        expected = select(outputs, tokens.positive_map, [prepared.resized_hw])[0]
    found = detector.predict(opened, ["cat", "dog"], imgsz=64)[0]
    assert len(found) == len(expected.scores) > 0
    height, width = prepared.resized_hw
    scale = np.array([200 / width, 100 / height] * 2, np.float32)
    assert np.allclose(found.boxes, expected.boxes.numpy() * scale + [0, 0, 1, 1], atol=1e-4)
    assert np.array_equal(found.scores, expected.scores.numpy())
    assert found.names == ("cat", "dog")
    assert (np.diff(found.scores) <= 0).all()


def test_golden_detections_come_out_of_predict(words: Tokenizer) -> None:
    """The whole way: image, words, network, post-processing, original image."""
    case = Case.read(GOLDEN, "A_formula_six")
    detector = Detector(golden_model("A"), words, name="A", sha256="", device="cpu")
    found = detector.predict(formula_image(), case.meta["classes"], imgsz=320)[0]
    # Nothing was resized, so the original's box is ours less the whole pixel at its end.
    arrays: dict[str, Array] = {
        "det0_boxes": found.boxes - np.array([0, 0, 1, 1], np.float32),
        "det0_scores": found.scores,
        "det0_labels": found.labels + 1,
    }
    assert len(found) == case.meta["detections"][0]
    pairs = partners(case, arrays, 0)
    assert max(pair.pixels for pair in pairs) < 0.01
    assert max(pair.score for pair in pairs) < 1e-4


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_change_nothing(detector: Detector, batch_size: int) -> None:
    images = [image(seed=1), image(60, 200, seed=2), image(seed=3), image(130, 90, seed=4), image(seed=5)]
    alone = detector.predict(images, "cat . dog .", imgsz=64)
    together = detector.predict(images, "cat . dog .", imgsz=64, batch_size=batch_size)
    assert len(alone) == len(together) == 5
    for one, many in zip(alone, together, strict=True):
        assert len(one) == len(many)
        assert np.allclose(one.scores, many.scores, atol=1e-5)


def test_images_come_as_paths_images_and_arrays(detector: Detector, tmp_path: Path) -> None:
    opened = image()
    opened.save(tmp_path / "a.png")
    inputs: list[ImageInput] = [tmp_path / "a.png", str(tmp_path / "a.png"), opened, np.asarray(opened)]
    results = [detector.predict(one, "cat", imgsz=64)[0] for one in inputs] + detector.predict(inputs, "cat", imgsz=64)
    assert len(results) == 8
    assert all(np.array_equal(result.boxes, results[0].boxes) for result in results)


def test_a_prompt_comes_as_text_names_or_caption(detector: Detector) -> None:
    caption = Prompt.from_caption("cat. dog", [[(0, 3)], [(5, 8)]])
    results = [detector.predict(image(), prompt, imgsz=64)[0] for prompt in ("cat . dog .", ["cat", "dog"], caption)]
    assert all(result.names == ("cat", "dog") for result in results)
    assert all(np.array_equal(result.scores, results[0].scores) for result in results)


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.05, 0.3, 0.7, 1.0])
def test_no_score_above_the_published_threshold_lies_under_the_wanted_one(detector: Detector, threshold: float) -> None:
    everything = detector.predict(image(), "cat . dog .", 0.05, imgsz=64)[0]
    found = detector.predict(image(), "cat . dog .", threshold, imgsz=64)[0]
    if threshold > 0.05:
        assert found.scores.tolist() == everything.scores[everything.scores >= threshold].tolist()
    else:
        assert len(found) >= len(everything) > 0


def test_a_long_list_runs_in_chunks_that_are_merged_before_the_limit(detector: Detector) -> None:
    names = [f"thing {letter}{other}" for letter in "abcdefghij" for other in "klmno"]
    prompts = PromptSet.from_names(names, detector.tokenizer).chunks
    assert len(prompts) > 1
    batch = collate([prepare(image(), 64)])
    unlimited = [detector.detect_batch(batch, [prompt], Selection(max_detections=None))[0] for prompt in prompts]
    merged = detector.detect_batch(batch, prompts, PUBLISHED)[0]
    assert merged.names == tuple(names)
    scores = np.sort(np.concatenate([part.scores for part in unlimited]))[::-1]
    assert len(merged) == PUBLISHED.max_detections
    assert np.allclose(merged.scores, scores[: len(merged)])
    start = len(prompts[0].phrases)
    second = merged.labels >= start
    assert second.any()
    best = unlimited[1].filter(unlimited[1].scores >= merged.scores[-1])
    in_second = second & (merged.labels < start + len(prompts[1].phrases))
    assert sorted(merged.labels[in_second] - start) == sorted(best.labels)


def chunks_and_images() -> tuple[list[Prompt], ImageBatch]:
    """Chunks of several lengths, one of them longer than what runs together with it; and two images."""
    names = (["cat"], ["dog", "a very large bird of prey"], ["lion", "horse"], ["fish"], ["a tree in the wind"])
    return [Prompt.from_names(some) for some in names], collate([prepare(image(seed=seed), 64) for seed in (0, 1)])


@pytest.mark.parametrize("together", [2, 3, 5])
def test_chunks_that_run_together_find_what_each_finds_alone(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    prompts, batch = chunks_and_images()
    monkeypatch.setattr(detector, "max_cells", 0)
    alone = detector.detect_batch(batch, prompts, Selection(max_detections=None))
    detector.max_cells = together * sum(x.shape[0] * x.shape[2] * x.shape[3] for x in detector.encode_images(batch))
    ground = detector._model.ground
    rows: list[int] = []

    def counted(maps: list[torch.Tensor], text: TextFeatures) -> RawOutputs:
        rows.append(len(maps[0]))
        return ground(maps, text)

    monkeypatch.setattr(detector._model, "ground", counted)
    joined = detector.detect_batch(batch, prompts, Selection(max_detections=None))
    assert rows == [2 * together] * (5 // together) + [2 * (5 % together)] * (5 % together > 0)
    for one, other in zip(alone, joined, strict=True):
        assert len(one) == len(other) > 50
        assert np.allclose(one.scores, other.scores, atol=1e-5)
        assert np.allclose(one.boxes, other.boxes, atol=1e-2)
        assert (np.bincount(one.labels, minlength=7) == np.bincount(other.labels, minlength=7)).all()
    assert not np.allclose(joined[0].boxes[:20], joined[1].boxes[:20], atol=1)


def test_chunks_that_do_not_fit_together_run_alone(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, batch = chunks_and_images()
    monkeypatch.setattr(detector, "max_cells", 100_000)
    expected = detector.detect_batch(batch, prompts)
    ground = detector._model.ground
    tried: list[int] = []

    def small(maps: list[torch.Tensor], text: TextFeatures) -> RawOutputs:
        tried.append(len(maps[0]))
        if len(maps[0]) > 2:
            raise torch.OutOfMemoryError("simulated")
        return ground(maps, text)

    monkeypatch.setattr(detector._model, "ground", small)
    found = [detector.detect_batch(batch, prompts) for _ in range(2)]
    assert tried == [10] + [2] * 10
    assert all(np.allclose(one.scores, other.scores, atol=1e-5) for one, other in zip(found[1], expected, strict=True))


def test_the_published_limit_per_chunk_is_an_option(detector: Detector) -> None:
    prompts = [Prompt.from_names(["cat"]), Prompt.from_names(["dog"])]
    batch = collate([prepare(image(), 64)])
    found = detector.detect_batch(batch, prompts, Selection(max_detections=5, limit_per_chunk=True))[0]
    assert np.bincount(found.labels).tolist() == [5, 5]
    assert (np.diff(found.scores) <= 0).all()


def test_a_prompt_is_encoded_once(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Tensor] = []
    encode = detector._model.encode_text

    def counted(ids: torch.Tensor) -> TextFeatures:
        calls.append(ids)
        return encode(ids)

    monkeypatch.setattr(detector._model, "encode_text", counted)
    for _ in range(3):
        detector.predict(image(), "zebra . horse .", imgsz=64)
    assert len(calls) == 1


def test_a_tuned_prompt_is_opened_with_its_folder(tmp_path: Path) -> None:
    """Zeros change nothing, other numbers do, and the folder without any gives the plain result."""
    random_model(tmp_path / "plain", "tiny")
    plain = load_detector(tmp_path / "plain", device="cpu").predict(image(), "cat", imgsz=64)[0].scores
    # Differs between channels: layer norm removes an offset that all channels of a token share, up to rounding.
    shift = torch.linspace(-2, 2, TINY.text.hidden_size).expand(300, -1).contiguous()
    tuned = {}
    for name, offset in (("zeros", torch.zeros_like(shift)), ("moved", shift)):
        shutil.copytree(tmp_path / "plain", tmp_path / name)
        save_file({"prompt": offset}, tmp_path / name / "prompt.safetensors")
        tuned[name] = load_detector(tmp_path / name, device="cpu").predict(image(), "cat", imgsz=64)[0].scores
    assert np.array_equal(plain, tuned["zeros"])
    count = min(len(plain), len(tuned["moved"]))
    assert np.abs(plain[:count] - tuned["moved"][:count]).max() > 1e-4


def test_bf16_runs_and_stays_near(detector: Detector) -> None:
    half = Detector(tiny_model(), detector.tokenizer, name="tiny", sha256="", device="cpu", precision="bf16")
    exact, near = (d.predict(image(), "cat", imgsz=64)[0] for d in (detector, half))
    assert exact.scores[0] == pytest.approx(near.scores[0], abs=0.05)
    assert not np.array_equal(exact.scores, near.scores[: len(exact.scores)])


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bf16_on_a_processor_without_it_is_warned_of(
    detector: Detector,
    capabilities: dict[str, object],
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    Detector(tiny_model(), detector.tokenizer, name="tiny", sha256="", device="cpu", precision="bf16")
    assert ("fp32 is faster here" in caplog.text) == warned
    caplog.clear()
    Detector(tiny_model(), detector.tokenizer, name="tiny", sha256="", device="cpu", precision="fp32")
    assert not caplog.text


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"score_threshold": 1.5}, "between 0 and 1"),
        ({"batch_size": 0}, "1 or more"),
        ({"imgsz": 0}, "imgsz"),
        ({"prompt": " . "}, "no name"),
        ({"prompt": []}, "name"),
        ({"images": np.zeros((3, 3))}, "uint8"),
        ({"images": "/nowhere/at/all.jpg"}, "/nowhere/at/all.jpg"),
    ],
)
def test_bad_input_is_one_sentence(detector: Detector, keywords: dict[str, object], message: str) -> None:
    arguments = {"images": image(), "prompt": "cat", "imgsz": 64, **keywords}
    with pytest.raises(GlipError, match=message):
        detector.predict(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "", "cuda:99", "mps"])
def test_devices_that_are_not_here_are_refused(device: str) -> None:
    with pytest.raises(InputError, match="evice"):
        choose_device(device)


def test_half_floats_on_a_cpu_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="fp16"):
        load_detector("nano", device="cpu", precision="fp16")
    with pytest.raises(InputError, match="fp32, bf16, fp16"):
        load_detector("nano", device="cpu", precision="int8")

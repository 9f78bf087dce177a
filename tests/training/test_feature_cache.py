"""What is frozen is computed once, and nothing is learned otherwise because of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glip.data.transforms import AugmentedStream
from glip.model.glip import GLIP
from glip.training.batches import Share, make_batch, read_batches
from glip.training.feature_cache import FeatureStore, FrozenParts, KeyedBatch, fingerprint, keyed
from glip.training.loop import Batches, fit, forward_pixels
from glip.training.settings import FitSettings, Rates, Schedule
from tests.tiny import letters_tokenizer, tiny_model
from tests.training.images import SquareStream


class Few:
    """Two images, again and again."""

    epoch_length = 2

    def example(self, position: int) -> Any:
        return SquareStream().example(position % 2)


def batches_of(stream: Any, batch_size: int) -> Any:
    return lambda steps: read_batches(stream, letters_tokenizer(), Share(batch_size), steps)


def losses(out: Path, mode: str, batches: Any, steps: int, store: FeatureStore | None, **changes: Any) -> list[float]:
    rates = Rates(0.05 if mode == "prompt" else 1e-3, weight_decay=0.25)
    settings = FitSettings(Schedule(steps, warmup=0), mode, rates, average=0, log_every=1, **changes)
    if store is None:
        fitted = fit(tiny_model(), batches, settings, out)
    else:
        fitted = fit(tiny_model(), keyed(batches), settings, out, forward=FrozenParts(mode, store).forward)
    return [row["loss"] for row in fitted.rows]


@pytest.mark.parametrize("mode", ["prompt", "linear", "language"])
def test_the_loss_curve_is_that_of_the_plain_loop(mode: str, tmp_path: Path) -> None:
    # Sizes and mirrors as published, so that paddings differ; dropout acts where the mode lets it.
    stream = AugmentedStream(Few(), sizes_short=(48, 64), longest=80)
    steps = 20 if mode == "prompt" else 4  # benchmarks/tuning.py compares 50
    plain = losses(tmp_path / "plain", mode, batches_of(stream, 2), steps, None)
    store = FeatureStore()
    cached = losses(tmp_path / "cached", mode, batches_of(stream, 2), steps, store)
    assert max(abs(a - b) for a, b in zip(plain, cached, strict=True)) < 1e-4
    assert plain[-1] < plain[0]
    # Two images, two sizes, mirrored or not, alone or padded for the other: a few views at most.
    assert store.misses <= 12
    assert store.hits > (store.misses if mode == "prompt" else 0)


def test_one_image_alone_gives_the_same_losses(tmp_path: Path) -> None:
    """Cached maps equal the plain ones up to rounding.

    Bits may differ: maps are cached from a pass without gradients, for which some processors (Intel with AMX) have
    other kernels of the same convolution.
    """
    plain = losses(tmp_path / "plain", "prompt", batches_of(Few(), 1), 6, None)
    cached = losses(tmp_path / "cached", "prompt", batches_of(Few(), 1), 6, FeatureStore())
    assert cached == pytest.approx(plain, rel=1e-5)


def test_a_frozen_image_is_seen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    before = GLIP.encode_image

    def count(self: GLIP, pixels: torch.Tensor) -> Any:
        seen.append(len(pixels))
        return before(self, pixels)

    monkeypatch.setattr(GLIP, "encode_image", count)
    losses(tmp_path / "cached", "prompt", batches_of(Few(), 4), 5, FeatureStore())
    assert seen == [1, 1]  # each of two images stands twice in every batch


@pytest.mark.parametrize(("mode", "grounded"), [("prompt", [2]), ("linear", [4])])
def test_copies_in_a_batch_are_computed_once_unless_dropout_tells_them_apart(
    mode: str, grounded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    before = GLIP.ground

    def count(self: GLIP, maps: Any, text: Any) -> Any:
        seen.append(len(maps[0]))
        return before(self, maps, text)

    plain = losses(tmp_path / "plain", mode, batches_of(Few(), 4), 3, None)
    monkeypatch.setattr(GLIP, "ground", count)
    cached = losses(tmp_path / "cached", mode, batches_of(Few(), 4), 3, FeatureStore())
    assert seen == 3 * grounded
    assert max(abs(a - b) for a, b in zip(plain, cached, strict=True)) < 1e-4


@pytest.mark.parametrize("mode", ["prompt", "linear"])
def test_losses_do_not_depend_on_what_the_store_holds_already(mode: str, tmp_path: Path) -> None:
    """A resumed run begins with an empty store in the middle, a later run of a sweep with a filled one."""
    batches = batches_of(SquareStream(), 3)
    found = []
    for earlier in (range(0), range(1, 2), range(5, 6)):
        store, model = FeatureStore(tmp_path / f"{earlier}"), tiny_model()
        parts = FrozenParts(mode, store)
        for batch in keyed(batches)(earlier):
            parts._maps(model, batch)
        # The images of one step, of which some were seen with other neighbours before.
        plain = make_batch([SquareStream().example(position) for position in (3, 4, 20)], letters_tokenizer())
        batches_of_one: Batches = lambda steps, batch=plain: iter([batch])  # type: ignore[misc]  # noqa: E731
        found.append(parts._maps(model, next(keyed(batches_of_one)(range(1)))))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_a_mode_that_changes_everything_keeps_nothing() -> None:
    store = FeatureStore()
    parts = FrozenParts("full", store)
    assert not parts.useful
    model = tiny_model()
    batch = make_batch([SquareStream().example(0)], letters_tokenizer())
    assert torch.equal(parts.forward(model, batch).alignment, forward_pixels(model, batch).alignment)
    assert store.hits == store.misses == 0


def test_keys_tell_numbers_shapes_and_kinds_apart() -> None:
    zeros = torch.zeros(3, 4, 6)
    different = [zeros, torch.ones(3, 4, 6), zeros.view(3, 6, 4), zeros.double(), zeros[:, :2]]
    assert len({fingerprint(values) for values in different}) == len(different)
    assert fingerprint(zeros) == fingerprint(torch.zeros(3, 6, 4).transpose(1, 2))


def test_keyed_batches_keep_their_keys_on_another_device() -> None:
    batch = make_batch([SquareStream().example(0)], letters_tokenizer())
    found = next(keyed(lambda steps: iter([batch]))(range(1)))
    moved = found.to(torch.device("cpu"))
    assert isinstance(moved, KeyedBatch)
    assert moved.keys == (fingerprint(batch.pixels[0]),)


def tensors(number: float) -> list[torch.Tensor]:
    return [torch.full((1, 4), number), torch.full((1, 2, 2), -number)]


def test_memory_first_then_disk_then_nothing(tmp_path: Path) -> None:
    size = 32  # bytes of one group
    store = FeatureStore(tmp_path / "features", memory=2 * size, disk=size)
    for number in range(4):
        store.put(f"key{number}", tensors(float(number)))
    cpu = torch.device("cpu")
    for number in range(3):
        found = store.get(f"key{number}", cpu)
        assert found is not None
        assert all(torch.equal(a, b) for a, b in zip(found, tensors(number), strict=True))
    assert store.get("key3", cpu) is None
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["key2.safetensors"]
    assert (store.hits, store.misses) == (3, 1)
    store.close()
    assert not (tmp_path / "features").exists()


def test_what_a_killed_run_left_is_not_believed(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features", memory=0)
    store.put("key", tensors(1))
    assert FeatureStore(tmp_path / "features", memory=0).get("key", torch.device("cpu")) is None


def test_a_disk_that_refuses_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "features").write_text("in the way")
    store = FeatureStore(tmp_path / "features", memory=0)
    store.put("key", tensors(1))
    store.put("other", tensors(1))
    assert store.get("key", torch.device("cpu")) is None
    assert len(caplog.records) == 1
    assert str(tmp_path / "features") in caplog.text


def test_a_kept_image_does_not_hold_on_to_its_batch() -> None:
    store = FeatureStore(memory=10_000)
    batch = torch.zeros(8, 4)
    store.put("key", [batch[:1]])
    kept = store.get("key", torch.device("cpu"))
    assert kept is not None
    assert kept[0].untyped_storage().nbytes() == 16

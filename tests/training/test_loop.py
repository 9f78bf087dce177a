"""The loop: resumes to the bit, stops when it should, averages, and two processes make the steps of one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glip.errors import InputError, JobFailed
from glip.model.glip import GLIP
from glip.training.batches import Share, TrainingBatch, read_batches
from glip.training.checkpointing import METRICS_FILE
from glip.training.distributed import Processes
from glip.training.loop import Fitted, fit
from glip.training.settings import FitSettings, Rates, Schedule
from tests.tiny import letters_tokenizer, tiny_model
from tests.training.images import SquareStream

STEPS = 6
SETTINGS = FitSettings(
    schedule=Schedule(steps=STEPS, warmup=2, milestones=(0.8,)),
    rates=Rates(base=1e-3, text=1e-3),
    average=0.9,
    log_every=1,
    save_every=2,
)


def batches(steps: range) -> Iterator[TrainingBatch]:
    return read_batches(SquareStream(), letters_tokenizer(), Share(2), steps)


def run(out: Path, settings: FitSettings = SETTINGS, **options: object) -> tuple[GLIP, Fitted]:
    model = tiny_model()
    return model, fit(model, batches, settings, out, **options)  # type: ignore[arg-type]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]


class Stopped(Exception):
    """Stands for a kill."""


def stop_after(step: int) -> object:
    def advance(done: int) -> None:
        if done == step:
            raise Stopped

    return advance


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[dict[str, float]]]:
    """The weights, their average and the numbers of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    model, fitted = run(out)
    assert fitted.average is not None
    return dict(model.state_dict()), fitted.average, rows(out)


@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    killed_at: int,
    whole: tuple[dict[str, Tensor], dict[str, Tensor], list[dict[str, float]]],
    tmp_path: Path,
) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, advance=stop_after(killed_at))
    model, fitted = run(tmp_path)
    weights, average, numbers = whole
    assert same(dict(model.state_dict()), weights)
    assert fitted.average is not None
    assert same(fitted.average, average)
    losses = [row["loss"] for row in rows(tmp_path)]
    assert losses == [row["loss"] for row in numbers]
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, STEPS + 1))


def test_it_learns_and_only_two_checkpoints_stay(whole: object, tmp_path: Path) -> None:
    _, fitted = run(tmp_path, replace(SETTINGS, schedule=Schedule(steps=8, warmup=0)))
    losses = [row["loss"] for row in fitted.rows]
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, straight = run(tmp_path)
    newest, before = sorted((tmp_path / "checkpoints").iterdir())[::-1]
    (newest / "learned.safetensors").write_bytes(b"half of it")
    with caplog.at_level(logging.WARNING, logger="glip"):
        _, resumed = run(tmp_path)
    assert newest.name in caplog.text
    assert all(torch.equal(value, straight.learned[name]) for name, value in resumed.learned.items())
    for folder in (newest, before):
        (folder / "learned.safetensors").write_bytes(b"half of it")
    with pytest.raises(InputError, match=newest.name):
        run(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stop_at=2)
    model = tiny_model()
    model.neck.p6 = torch.nn.Conv2d(model.neck.p6.in_channels, model.neck.p6.out_channels, 1)
    with pytest.raises(InputError, match=r"neck\.p6\.weight.*3, 3\).*1, 1\)"):
        fit(model, batches, SETTINGS, tmp_path)


def test_dropout_off_makes_the_seed_irrelevant_and_on_makes_it_count(tmp_path: Path) -> None:
    short = replace(SETTINGS, schedule=Schedule(steps=1, warmup=0), save_every=0)
    runs = {
        (dropout, seed): run(tmp_path / f"{dropout}{seed}", replace(short, dropout=dropout, seed=seed))[1]
        for dropout in (False, True)
        for seed in (0, 1)
    }
    assert runs[False, 0].rows[0]["loss"] == runs[False, 1].rows[0]["loss"]
    assert runs[True, 0].rows[0]["loss"] != runs[True, 1].rows[0]["loss"]


def test_recomputing_gives_the_same_weights(tmp_path: Path) -> None:
    short = replace(SETTINGS, schedule=Schedule(steps=2, warmup=0), save_every=0)
    plain, _ = run(tmp_path / "plain", short)
    again, _ = run(tmp_path / "again", replace(short, recompute=True))
    for (name, one), other in zip(plain.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


def test_two_parts_of_a_step_have_the_mean_gradient(tmp_path: Path) -> None:
    """With the same batch twice, two parts make the very step of one."""

    def twice(steps: range) -> Iterator[TrainingBatch]:
        for step in steps:
            yield from read_batches(SquareStream(), letters_tokenizer(), Share(2), range(step // 2, step // 2 + 1))

    short = replace(SETTINGS, schedule=Schedule(steps=2, warmup=0), dropout=False, save_every=0)
    one, _ = run(tmp_path / "one", short)
    two = tiny_model()
    fit(two, twice, replace(short, accumulate=2), tmp_path / "two")
    for (name, value), other in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.allclose(value, other, atol=1e-6), name


def test_the_best_validation_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    settings = replace(SETTINGS, validate_every=1, stop_after=2)
    model, fitted = run(tmp_path, settings, validate=lambda model: next(scores))
    assert (fitted.best_score, fitted.best_step, fitted.steps) == (0.5, 2, 4)
    assert fitted.best is not None
    assert not same(fitted.best, dict(model.named_parameters()))


def test_patience_and_the_best_survive_a_kill(tmp_path: Path) -> None:
    settings = replace(SETTINGS, validate_every=1, stop_after=2, save_every=1)
    scores = [0.2, 0.5, 0.4, 0.3]
    given = iter(scores)
    with pytest.raises(Stopped):
        run(tmp_path, settings, validate=lambda model: next(given), advance=stop_after(3))
    left = iter(scores[3:])
    _, fitted = run(tmp_path, settings, validate=lambda model: next(left))
    assert (fitted.best_score, fitted.best_step, fitted.steps) == (0.5, 2, 4)


def test_a_gradient_that_is_never_finite_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.head.box.weight.fill_(float("nan"))
    before = model.neck.p6.weight.clone()
    settings = replace(SETTINGS, schedule=Schedule(steps=60, warmup=0), log_every=0, save_every=0)
    one = next(batches(range(1)))
    with pytest.raises(JobFailed, match=r"\b25 steps.*precision fp32"):
        fit(model, lambda steps: iter([one] * len(steps)), settings, tmp_path)
    assert torch.equal(model.neck.p6.weight, before)


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    alone = list(read_batches(SquareStream(), letters_tokenizer(), Share(2), range(3)))
    ahead = list(read_batches(SquareStream(), letters_tokenizer(), Share(2), range(3), workers=2))
    for one, other in zip(alone, ahead, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.input_ids, other.input_ids)
        assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(one.targets, other.targets, strict=True))


def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    """Half of every batch each, gloo in between: the same losses and the same weights."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    words = [
        *torchrun,
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "-m",
        "tests.training.two",
        str(tmp_path),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    from tests.training.two import SETTINGS as THEIRS

    model = tiny_model()
    fitted = fit(
        model,
        lambda steps: read_batches(SquareStream(), letters_tokenizer(), Share(2), steps),
        THEIRS,
        tmp_path / "one",
        processes=Processes(device="cpu"),
    )
    theirs = rows(tmp_path / "two")
    # Adam multiplies rounding: changing every weight by 1e-7 of itself moves the third loss by up to 9e-5.
    for step, limit in enumerate((1e-5, 1e-4, 1e-3)):
        assert theirs[step]["loss"] == pytest.approx(fitted.rows[step]["loss"], rel=limit)
    # Adam makes a whole step even of a gradient that is nothing but rounding, so single weights may part.
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    before = dict(tiny_model().named_parameters())
    moved = parted = 0.0
    for name, value in model.named_parameters():
        moved += float((value - before[name]).detach().abs().sum())
        parted += float((value - weights[name]).detach().abs().sum())
    assert parted < 0.01 * moved


def test_a_run_may_end_for_now_and_go_on_to_the_same_weights(
    whole: tuple[dict[str, Tensor], dict[str, Tensor], list[dict[str, float]]], tmp_path: Path
) -> None:
    _, fitted = run(tmp_path, stop_at=3)
    assert fitted.steps == 3
    _, again = run(tmp_path, stop_at=0)  # nothing is undone
    assert again.steps == 3
    model, _ = run(tmp_path)
    assert same(dict(model.state_dict()), whole[0])

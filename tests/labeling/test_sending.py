"""A job can be sent: spec, settings, shards and worker travel to another process, which writes the same bytes."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.labeling.image_prompts import CaptionSource, PromptPlan
from glip.labeling.job import LabelJob, label
from glip.labeling.tiling import Tiling
from glip.weights.random_weights import random_model
from tests.labeling.fake import NAMES, make_images


def _work(sent: bytes, shards: bytes, threads: int) -> bytes:
    """Opens what was sent and labels; runs in another process."""
    torch.set_num_threads(threads)
    worker = pickle.loads(sent)()
    return pickle.dumps([list(worker(shard)) for shard in pickle.loads(shards)])


class SpawnedEngine:
    """Runs the worker in one spawned process, which shares nothing with this one but what is pickled."""

    def map(
        self, make_worker: Callable[[], Callable[[Any], Iterable[Any]]], shards: Iterable[Any]
    ) -> Generator[Any, None, None]:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            arguments = pickle.dumps(make_worker), pickle.dumps(list(shards)), torch.get_num_threads()
            for results in pickle.loads(pool.apply(_work, arguments)):
                yield from results


@pytest.fixture
def job(tmp_path: Path) -> LabelJob:
    model = random_model(tmp_path / "model", "tiny").path
    make_images(tmp_path / "in", 5)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    (tmp_path / "captions.csv").write_text("file_name,caption\np0.png,a dog\np1.png,a dog and a person\np2.png,it\n")
    return LabelJob(
        (str(tmp_path / "in"),),
        NAMES,
        tmp_path / "here",
        DetectorSpec(str(model), device="cpu", offline=True),
        options=InferenceOptions(64),
        shard_size=3,
        report=False,
    )


def records(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").glob("*.jsonl")}


def test_everything_that_is_sent_can_be_pickled(job: LabelJob) -> None:
    assert pickle.loads(pickle.dumps(job)) == job
    sent: list[partial[Any]] = []

    class Catching:
        def map(self, make_worker: Any, shards: Iterable[Any]) -> Generator[Any, None, None]:
            sent.append(make_worker)
            assert pickle.loads(pickle.dumps(list(shards))) == list(shards)
            yield from ()

    label(job, engine=Catching())
    (make_worker,) = sent
    settings = make_worker.args[1]
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("kind", ["names", "captions", "tiles"])
def test_a_spawned_process_writes_the_same_records(job: LabelJob, tmp_path: Path, kind: str) -> None:
    plans: dict[str, PromptPlan] = {
        "captions": CaptionSource(str(tmp_path / "captions.csv"), phrases=("dog", "person"))
    }
    job = replace(job, prompts=plans.get(kind, NAMES), tiling=Tiling(64) if kind == "tiles" else None)
    here = label(job)
    there = label(replace(job, out=tmp_path / "there"), engine=SpawnedEngine())
    assert (there.labelled, there.failed) == (here.labelled, here.failed)
    assert records(tmp_path / "there") == records(job.out)
    assert sum(here.boxes.values()) > 0

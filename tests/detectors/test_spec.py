"""DetectorSpec and InferenceOptions: checked when they are made, without torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glip.detectors.base import OpenedOnce
from glip.detectors.spec import GPU_BATCH, DetectorSpec, InferenceOptions
from glip.errors import InputError
from tests.labeling.fake import FakeDetector

SPEC = DetectorSpec("some/folder", Path("a.safetensors"), "cuda:1", "bf16", compiled=True, offline=True)


def test_a_spec_is_a_value_that_can_be_sent() -> None:
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC
    assert len({SPEC, replace(SPEC), replace(SPEC, device="cpu")}) == 2


@pytest.mark.parametrize(("change", "named"), [({"device": "gpu"}, "gpu"), ({"precision": "int8"}, "int8")])
def test_an_unknown_word_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(SPEC, **change)


@pytest.mark.parametrize(("values", "named"), [((31,), "31"), ((8192,), "8192"), ((64.5,), "64.5"), ((64, 0), "batch")])
def test_options_out_of_range_are_refused(values: tuple[Any, ...], named: str) -> None:
    with pytest.raises(InputError, match=named):
        InferenceOptions(*values)


def test_options_that_are_not_given_come_from_the_detector() -> None:
    import torch

    detector = FakeDetector(imgsz=96)
    assert (InferenceOptions().imgsz_for(detector), InferenceOptions().batch_for(detector)) == (96, 1)
    assert InferenceOptions().batch_for(FakeDetector(device=torch.device("cuda"))) == GPU_BATCH
    assert (InferenceOptions(64, 3).imgsz_for(detector), InferenceOptions(64, 3).batch_for(detector)) == (64, 3)


def test_a_detector_is_opened_once_in_a_process() -> None:
    class Counting(DetectorSpec):
        opened = 0

        def open(self, on_download: object = None) -> FakeDetector:
            Counting.opened += 1
            return FakeDetector()

    once = OpenedOnce(Counting())
    assert once.open() is once.open()
    assert Counting.opened == 1


def test_a_sent_copy_opens_its_own_detector() -> None:
    once = OpenedOnce(DetectorSpec("no-such-model", offline=True, device="cpu"))
    copy = pickle.loads(pickle.dumps(once))
    with pytest.raises(InputError, match="no-such-model"):
        copy.open()


def test_a_spec_is_made_without_torch() -> None:
    code = "import sys, glip.detectors.spec as s; s.DetectorSpec(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Measures the speed of a model on this machine by stage, beside the published order of operations and a peer.

Speed does not depend on the content of images and names, so images are noise and names are token ids.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glip.detectors.glip import DTYPES, check_compiler, check_precision, choose_device
from glip.errors import InputError
from glip.images import padded_hw
from glip.model.anchors import make_anchors
from glip.model.config import GLIPConfig
from glip.model.glip import GLIP, RawOutputs, build_glip
from glip.model.postprocess import PUBLISHED, merge, select, without_limits
from glip.model.reference_mode import compile_backbone, use_plain_forms
from glip.model.text import TextFeatures
from glip.prompts import MAX_TOKENS
from glip.weights.checkpoint import open_model
from glip.weights.random_weights import random_state
from glip.weights.zoo import RANDOM_ARCHITECTURES, check_architecture

logger = logging.getLogger(__name__)

FORMS = ("fast", "plain", "compiled", "grounding-dino")
LONGEST_LIST = 80  # maximum names in one caption; longer lists run in chunks, as published for LVIS
CHUNK = 40
TOKENS_PER_NAME = 2.2  # COCO's 80 names are 177 tokens
STAGES = ("backbone", "neck", "text", "tower", "head", "choice")


@dataclass(frozen=True)
class BenchJob:
    """A benchmark.

    Attributes:
        model: a checkpoint, as for `load_detector`; None: pseudo-random weights.
        architecture: architecture of pseudo-random weights.
        forms: some of `FORMS`. 'plain' is the original's order of operations: a whole pass for each chunk of names,
            text padded to 256 tokens, wide projections, torchvision's deformable convolution. 'compiled' is the fast
            form with a backbone compiled by `torch.compile`. 'grounding-dino' is transformers' GroundingDINO-tiny with
            random weights, up to its raw outputs.
        precisions: some of 'fp32', 'bf16', 'fp16'.
        names: numbers of names in a prompt; more than 80 run in chunks of 40.
        size_hw: height and width of images after resizing and before padding, in pixels; None: the model's, at 3:5.
        batch_size: images per batch.
        rounds: measurements of each case after one for warming up; the fastest counts.
        device: as for `load_detector`.
        offline: download nothing.
    """

    model: str | None = None
    architecture: str = "glip-t"
    forms: tuple[str, ...] = ("fast",)
    precisions: tuple[str, ...] = ("fp32",)
    names: tuple[int, ...] = (2, 80)
    size_hw: tuple[int, int] | None = None
    batch_size: int = 1
    rounds: int = 3
    device: str = "auto"
    offline: bool = False


@dataclass(frozen=True)
class Case:
    """A form, a precision and a number of names: one row of the table."""

    form: str
    precision: str
    names: int


@dataclass(frozen=True)
class Measurement:
    """Measurements of a case.

    Attributes:
        case: the case.
        chunks: number of captions that the names need.
        tokens: number of tokens of the longest caption.
        seconds: wall time of one batch, without work that is done once per prompt and cached.
        cpu_seconds: processor time of all threads for that batch.
        stages: wall seconds of each stage of that batch. In the fast form 'text' is computed once per prompt and is not
            part of `seconds`.
        first_seconds: wall time of the first batch, which allocates memory and compiles.
        images_per_second: images per second of wall time.
        peak_bytes: maximum resident memory of the process (CPU) or memory of the device (GPU), with all networks of the
            job; None if unknown.
        faster: form and precision -> ratios of wall and processor time of every other form to this one's, for the same
            names.
    """

    case: Case
    chunks: int
    tokens: int
    seconds: float
    cpu_seconds: float
    stages: dict[str, float]
    first_seconds: float
    images_per_second: float
    peak_bytes: int | None
    faster: dict[str, tuple[float, float]] = field(default_factory=dict)


def bench(job: BenchJob, advance: Callable[[int], None] = lambda done: None) -> list[Measurement]:
    """Measures every case, in turns, so that other load on the machine affects all of them.

    Args:
        job: the benchmark.
        advance: receives the number of finished measurements, of (rounds + 1) * `len(cases(job))`.

    Raises:
        InputError: a field of the job cannot be used on this machine.
    """
    device = _check(job)
    network, imgsz = _network(job)
    network = network.eval().requires_grad_(False).to(device)
    networks = {
        (form, precision): _network_of(network, form, precision, device)
        for form in job.forms
        for precision in job.precisions
    }
    peer = _Peer(device) if "grounding-dino" in job.forms else None
    size_hw = job.size_hw or (imgsz, round(imgsz * 1333 / 800))
    runs = {
        case: _CaseRun(case, networks[case.form, case.precision], peer, job, size_hw, device) for case in cases(job)
    }
    done = 0
    for round_ in range(job.rounds + 1):
        for run in runs.values():
            run.measure(keep=round_ > 0)
            done += 1
            advance(done)
    rows = [run.row() for run in runs.values()]
    return [_compared(row, rows) for row in rows]


def cases(job: BenchJob) -> list[Case]:
    """Returns the cases of a job, in the order of its table."""
    return [Case(form, precision, names) for names in job.names for form in job.forms for precision in job.precisions]


def machine() -> dict[str, object]:
    """Returns what measurements depend on besides the code: processor, threads, GPU, versions, day."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    packages = {name: version(name) for name in ("glip", "torch", "torchvision", "timm", "transformers")}
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
        "day": datetime.now(UTC).date().isoformat(),
    }


def forget_peak(device: torch.device) -> None:
    """Resets the peak of the memory, where that is possible (Linux, CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        logger.debug("The peak of the memory cannot be reset here; it covers the whole process.")


def peak_bytes(device: torch.device) -> int | None:
    """Returns the maximum memory since `forget_peak`: of the device, or on a CPU resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


class _CaseRun:
    """A case with its input and its measurements so far."""

    def __init__(
        self,
        case: Case,
        network: GLIP,
        peer: _Peer | None,
        job: BenchJob,
        size_hw: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.case, self.network, self.peer, self.job, self.device = case, network, peer, job, device
        self.size_hw = size_hw
        height, width = padded_hw(size_hw)
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(job.batch_size, 3, height, width, generator=generator).to(device)
        count = 1 if case.names <= LONGEST_LIST else -(-case.names // CHUNK)
        lengths = [case.names] if count == 1 else [min(CHUNK, case.names - CHUNK * k) for k in range(count)]
        self.prompts = [_prompt(names, device) for names in lengths]
        self.measured: list[tuple[float, float, dict[str, float]]] = []
        self.first_seconds = 0.0
        self.peak: int | None = None

    def measure(self, keep: bool) -> None:
        clock = _Clock(self.device)
        forget_peak(self.device)
        if self.case.form != "compiled":
            use_plain_forms(self.network, self.case.form == "plain")
        with torch.inference_mode(), self._autocast():
            if self.case.form in ("fast", "compiled"):
                self._fast(clock)
            elif self.case.form == "plain":
                self._plain(clock)
            else:
                self._other(clock)
        found = peak_bytes(self.device)
        self.peak = None if found is None else max(self.peak or 0, found)
        self.first_seconds = self.first_seconds or clock.wall
        if keep:
            self.measured.append((clock.wall, clock.cpu, dict(clock.stages)))

    def row(self) -> Measurement:
        wall, cpu, stages = min(self.measured, key=lambda item: item[0])
        tokens = max(len(ids) for ids, _ in self.prompts)
        return Measurement(
            case=self.case,
            chunks=len(self.prompts),
            tokens=tokens,
            seconds=wall,
            cpu_seconds=cpu,
            stages=stages,
            first_seconds=self.first_seconds,
            images_per_second=self.job.batch_size / wall,
            peak_bytes=self.peak,
        )

    def _fast(self, clock: _Clock) -> None:
        with clock.stage("text", counted=False):
            texts = [self.network.encode_text(ids[None]) for ids, _ in self.prompts]
        maps = self._look(clock)
        found = [
            self._ground(clock, maps, text, positive) for text, (_, positive) in zip(texts, self.prompts, strict=True)
        ]
        with clock.stage("choice"):
            for parts in zip(*found, strict=True):
                merge(list(parts), [0] * len(parts))

    def _plain(self, clock: _Clock) -> None:
        for ids, positive in self.prompts:
            maps = self._look(clock)
            with clock.stage("text"):
                padding = MAX_TOKENS - len(ids)
                mask = torch.arange(MAX_TOKENS, device=self.device)[None] < len(ids)
                text = self.network.encode_text(nn.functional.pad(ids, (0, padding))[None], mask)
            self._ground(clock, maps, text, nn.functional.pad(positive, (0, padding)))

    def _other(self, clock: _Clock) -> None:
        assert self.peer is not None
        for ids, _ in self.prompts:
            with clock.stage("all"):
                self.peer(self.pixels, ids)

    def _look(self, clock: _Clock) -> list[Tensor]:
        with clock.stage("backbone"):
            maps = self.network.backbone(self.pixels)
        with clock.stage("neck"):
            return list(self.network.neck(maps))

    def _ground(self, clock: _Clock, maps: list[Tensor], text: TextFeatures, positive: Tensor) -> list[Any]:
        batch = self.job.batch_size
        with clock.stage("tower"):
            pyramid, text = self.network.fusion(maps, text.expand(batch))
        with clock.stage("head"):
            alignment, deltas, centerness = self.network.head(pyramid, text.hidden)
        with clock.stage("choice"):
            outputs = RawOutputs(alignment, deltas, centerness, *_anchors(pyramid, self.device))
            return list(select(outputs, positive, [self.size_hw] * batch, without_limits(PUBLISHED)))

    def _autocast(self) -> AbstractContextManager[None]:
        if self.case.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.case.precision])


class _Clock:
    """Adds up wall and processor seconds by stage; waits for the device before and after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall = self.cpu = 0.0
        self.stages: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str, counted: bool = True) -> Iterator[None]:
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wait()
        took = time.perf_counter() - wall
        self.stages[name] += took
        if counted:
            self.wall += took
            self.cpu += time.process_time() - cpu

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class _Peer:
    """transformers' GroundingDINO-tiny with random weights, which do not change its speed."""

    def __init__(self, device: torch.device) -> None:
        from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

        torch.manual_seed(0)
        self.network = GroundingDinoForObjectDetection(GroundingDinoConfig()).eval().requires_grad_(False).to(device)

    def __call__(self, pixels: Tensor, ids: Tensor) -> None:
        ids = ids[None].expand(len(pixels), -1)
        self.network(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))


def _check(job: BenchJob) -> torch.device:
    device = choose_device(job.device)
    for precision in job.precisions:
        check_precision(precision, device)
    for form in job.forms:
        if form not in FORMS:
            raise InputError(f"The form is {form!r}; it must be one of {', '.join(FORMS)}.")
    if "compiled" in job.forms:
        check_compiler()
    if job.model is None:
        check_architecture(job.architecture)
    shortest_side = 32 if job.size_hw is None else min(job.size_hw)
    for name, value, minimum in (
        ("size_hw", shortest_side, 32),
        ("batch_size", job.batch_size, 1),
        ("rounds", job.rounds, 1),
        ("names", min(job.names), 1),
    ):
        if value < minimum:
            raise InputError(f"{name} is {value}; it must be at least {minimum}.")
    return device


def _network(job: BenchJob) -> tuple[GLIP, int]:
    """Returns the network, and the short side of its input in pixels."""
    if job.model is not None:
        folder = open_model(job.model, offline=job.offline)
        return build_glip(folder.config, folder.state_dict()), folder.config.imgsz
    config: GLIPConfig = RANDOM_ARCHITECTURES[job.architecture]
    return build_glip(config, random_state(config)), config.imgsz


def _network_of(network: GLIP, form: str, precision: str, device: torch.device) -> GLIP:
    """Returns the network as `load_detector` prepares it for a form; a copy if that changes it."""
    lowered = precision != "fp32" and device.type == "cpu" and form in ("fast", "compiled")
    if not lowered and form != "compiled":
        return network
    own = deepcopy(network)
    if lowered:
        own.lower(DTYPES[precision])
    if form == "compiled":
        compile_backbone(own)
    return own


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _prompt(names: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns token ids (T,) of a number of names, and their positive map (names, T). Every model has these ids."""
    length = round(TOKENS_PER_NAME * names) + 1
    ends = [1 + round(k * (length - 2) / names) for k in range(names + 1)]
    ids = torch.arange(length) % 900 + 100
    ids[0], ids[-1] = 101, 102
    positive = torch.zeros(names, length)
    for row, (start, end) in enumerate(pairwise(ends)):
        positive[row, start:end] = 1
    return ids.to(device), positive.to(device)


def _anchors(pyramid: list[Tensor], device: torch.device) -> tuple[Tensor, tuple[int, ...]]:
    sizes_hw = [(x.shape[2], x.shape[3]) for x in pyramid]
    return make_anchors(sizes_hw, device), tuple(h * w for h, w in sizes_hw)


def _compared(row: Measurement, rows: list[Measurement]) -> Measurement:
    ratios = {
        f"{other.case.form} {other.case.precision}": (other.seconds / row.seconds, other.cpu_seconds / row.cpu_seconds)
        for other in rows
        if other.case.names == row.case.names and other.case.form != row.case.form
    }
    return replace(row, faster=ratios)

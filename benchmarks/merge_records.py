"""Measures the time and memory of turning the records of many images into the final files.

    python -m benchmarks.merge_records --records 10000 100000 1000000

Makes records of random boxes as `glip label` would leave them: in one series of shards (a run without interruption) or
in several (a run that was resumed, each time with images from all over the listing). Each step runs in its own process;
the table shows the resident memory before the step and at its peak. Needs Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from glip.detections import Detections
from glip.labeling.export import write_outputs
from glip.labeling.records import LISTING_FILE, RECORDS_FOLDER, Head, Record, RunInfo, encode, read_all
from glip.run_folder import RUN_FILE

NAMES = ("person", "dog", "car")
SHARD_SIZE = 64


def make_records(folder: Path, count: int, boxes: int, sittings: int) -> None:
    """Makes records of `count` images with `boxes` boxes on average, labelled in `sittings` sessions in turns."""
    import msgspec

    (folder / RECORDS_FOLDER).mkdir(parents=True)
    samples = _samples(boxes)
    with (folder / RECORDS_FOLDER / LISTING_FILE).open("wb") as listing:
        listing.writelines(f'"{_name(number)}"\n'.encode() for number in range(count))
    for sitting in range(sittings):
        numbers = range(sitting, count, sittings)
        for shard, first in enumerate(range(0, len(numbers), SHARD_SIZE)):
            path = folder / RECORDS_FOLDER / f"{sitting + 1:06d}-{shard:06d}.jsonl"
            records = (
                msgspec.structs.replace(samples[number % len(samples)], file_name=_name(number), stamp=f"{number}-1")
                for number in numbers[first : first + SHARD_SIZE]
            )
            path.write_bytes(b"".join(map(encode, records)))
    run = RunInfo(
        model_sha256="0" * 64,
        names=NAMES,
        captions=(),
        floor=0.05,
        imgsz=800,
        nms_iou=0.6,
        max_detections=300,
        record="detections",
        precision="fp32",
        model="synthetic",
        device="cpu",
        created="2000-01-01T00:00:00+00:00",
        versions={},
        job={},
    )
    (folder / RUN_FILE).write_bytes(msgspec.json.encode(run))


def _name(number: int) -> str:
    return f"folder{number // 1000}/image{number}.jpg"


def _samples(boxes: int) -> list[Record]:
    random = np.random.default_rng(0)
    samples = []
    for _ in range(997):
        count = int(random.poisson(boxes))
        corners = np.sort(random.random((count, 2, 2)), axis=1).reshape(count, 4) * 640
        scores = -np.sort(-random.beta(1, 4, count))
        labels = random.integers(0, len(NAMES), count)
        found = Detections(corners.astype(np.float32), scores.astype(np.float32), labels, NAMES)
        samples.append(Record.of(found, file_name="", stamp="", size_hw=(640, 640)))
    return samples


def find_what_is_done(folder: Path) -> None:
    """Reads what a resumed run reads before it labels."""
    assert sum(1 for _ in read_all(folder, Head))


def write_final_files(folder: Path) -> None:
    """Writes what a run writes after the last image."""
    write_outputs(folder, (), conf=0.3, preview=0)


def measure(step: Callable[[Path], None], folder: Path) -> tuple[float, ...]:
    """Runs a step in a new process; returns wall and processor seconds, and resident MB before it and at its peak."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(theirs, step, folder))
    process.start()
    theirs.close()
    result: tuple[float, ...] = ours.recv()
    process.join()
    return result


def _report(pipe: Connection, step: Callable[[Path], None], folder: Path) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
    before = _megabytes("VmRSS")
    started, cpu = time.perf_counter(), time.process_time()
    step(folder)
    pipe.send((time.perf_counter() - started, time.process_time() - cpu, before, _megabytes("VmHWM")))


def _megabytes(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(entry))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--boxes", type=int, default=20, help="mean number of boxes per image")
    parser.add_argument("--sittings", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, help="folder for the records; default: a temporary folder")
    options = parser.parse_args()
    print("| records | sittings | MB of records | step | seconds | CPU seconds | MB at start | MB at peak |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|")
    for count in options.records:
        for sittings in options.sittings:
            folder = Path(tempfile.mkdtemp(dir=options.folder))
            make_records(folder, count, options.boxes, sittings)
            size = sum(path.stat().st_size for path in (folder / RECORDS_FOLDER).iterdir()) / 1e6
            for step in (find_what_is_done, write_final_files):
                seconds, cpu, start, peak = measure(step, folder)
                what = f"{count} | {sittings} | {size:.0f} | {step.__name__.replace('_', ' ')}"
                print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {start:.0f} | {peak:.0f} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Tunes a small model on few real images and measures what it learns and forgets: one table of `glip finetune` runs.

    python -m benchmarks.finetune_real OUT --data-root ../shared/data

Data: Raccoons of ODinW with three seeds, BCCD with one, and three drawn sets of mini-ODinW with one (written to OUT).
Modes: prompt, linear and full, with 1, 3 and 10 examples per class and with all images. The length of a run is given in
steps (--steps, --whole-steps), because the published 200 epochs take hours. Prompt and linear tuning run without
augmentation, so that frozen features are cached. Full tuning uses three times the published learning rate (--lr),
because the model has only a few million weights.

The last column is AP on synthetic scenes of other objects before (mode zero-shot) and after tuning, which measures
forgetting. Two processes of one thread run in parallel. Repeating the command resumes it and runs only missing runs.
Writes OUT/table.md and OUT/results.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev

import msgspec
import torch

from glip.data.lookup import TrainingSplits, find_training_splits
from glip.data.synthetic import MINI_ODINW, load_pool, write_mini_odinw
from glip.files import whole_file
from glip.training.feature_cache import FeatureStore
from glip.training.finetune import BaseCache, finetune
from glip.training.finetune_data import open_examples
from glip.training.finetune_job import ZERO_SHOT, FinetuneJob, FinetuneResult
from glip.training.recipes import Shots, recipe_for
from glip.training.sweep import Sweep, jobs_of

MODES = ("prompt", "linear", "full")
SHOTS: tuple[Shots, ...] = (0, 1, 3, 10, "all")
MINI = ("Animals", "Vehicles", "Shapes")
MINI_SHOTS: tuple[Shots, ...] = (0, 1, "all")
COST_FILE = "cost.json"


@dataclass(frozen=True)
class Group:
    """Data sets that share a row of the table."""

    title: str
    sources: tuple[TrainingSplits, ...]
    shots: tuple[Shots, ...]
    seeds: tuple[int, ...]


class Cost(msgspec.Struct):
    """Processor time and wall time of a whole run, in seconds."""

    cpu: float
    wall: float


def groups(words: argparse.Namespace) -> list[Group]:
    """Returns the groups to run; makes the drawn sets if they do not exist."""
    raccoons, _ = find_training_splits("odinw/Raccoons", words.data_root)
    cells, _ = find_training_splits("odinw/BCCD", words.data_root)
    drawn = words.out / "mini-odinw"
    if not drawn.is_dir():
        write_mini_odinw(drawn, load_pool(), sets=[one for one in MINI_ODINW if one.name in MINI])
    mini, _ = find_training_splits(str(drawn), Path())
    found = [
        Group("Raccoons", tuple(raccoons), SHOTS, (3, 30, 300)),
        Group("BCCD", tuple(cells), SHOTS, (3,)),
        Group("mini-ODinW", tuple(mini), MINI_SHOTS, (3,)),
    ]
    return [group for group in found if not words.sets or group.title in words.sets]


def jobs(group: Group, words: argparse.Namespace) -> Iterator[FinetuneJob]:
    """Yields the runs of a group."""
    rates = dict(words.lr)
    for source in group.sources:
        for shots in group.shots:
            if words.shots and str(shots) not in words.shots:
                continue
            for mode in words.modes if shots != 0 else words.modes[:1]:
                for seed in group.seeds if shots != 0 else (0,):
                    if shots != 0 and words.seeds and seed not in words.seeds:
                        continue
                    changes: dict[str, int | float] = {"epochs": epochs(source, mode, shots, seed, words)}
                    changes |= {"lr": rates[mode]} if mode in rates else {}
                    yield from jobs_of(
                        Sweep(
                            (source,),
                            words.out,
                            words.model,
                            (shots,),
                            (mode,),
                            None if shots == 0 else (seed,),
                            changes=changes,
                            augment=mode == "full",
                            imgsz=words.imgsz,
                            device="cpu",
                            scenes=words.scenes,
                        )
                    )


def epochs(source: TrainingSplits, mode: str, shots: Shots, seed: int, words: argparse.Namespace) -> int:
    """Returns the number of epochs whose steps are closest to the budget."""
    if shots == 0:
        return 1
    recipe = recipe_for(mode, shots)
    train = open_examples(source, shots, seed).train
    images = len({box.image_id for box in train.annotations})
    steps = words.whole_steps if shots == "all" else words.steps
    return max(1, round(steps * recipe.batch_size / (recipe.copies * images)))


_shared: BaseCache | None = None


def work(job: FinetuneJob) -> tuple[FinetuneJob, FinetuneResult]:
    """Runs one job; the process keeps frozen features for the next one."""
    global _shared  # a process has one
    torch.set_num_threads(1)
    _shared = _shared or BaseCache(FeatureStore(memory=1 << 30))
    cpu, wall = time.process_time(), time.perf_counter()
    known = (job.out / "metrics.json").is_file()
    tuned = finetune(job, base_cache=_shared)
    if not known:
        cost = Cost(round(time.process_time() - cpu, 1), round(time.perf_counter() - wall, 1))
        with whole_file(job.out / COST_FILE) as file:
            file.write(msgspec.json.encode(cost))
    return job, tuned


def run(wanted: list[FinetuneJob], processes: int) -> Iterator[tuple[FinetuneJob, FinetuneResult]]:
    """Yields runs as they finish; the longest ones start first."""
    longest = sorted(wanted, key=lambda job: (job.shots != "all", job.mode != "full"))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, job) for job in longest]):
            yield future.result()


def cost_of(job: FinetuneJob) -> Cost | None:
    try:
        return msgspec.json.decode((job.out / COST_FILE).read_bytes(), type=Cost)
    except OSError:
        return None


def shown(values: Iterable[float | None]) -> str:
    """Returns mean and standard deviation as text: '54.9 ± 0.3'."""
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    return f"{fmean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"


def ratio(runs: list[FinetuneResult], zero: list[FinetuneResult]) -> str:
    """Returns the ratio of AP to that of the base on the same sets, as text; a dash if the base has less than 1 AP."""
    before = {run.set: run.test["AP"] for run in zero}
    pairs = [(run.test["AP"], before.get(run.set)) for run in runs]
    known = [after / base for after, base in pairs if after is not None and base and base >= 1]
    return f"× {fmean(known):.1f}" if known else "—"


COLUMNS = ("images", "mode", "shots", "runs", "AP", "AP50", "to zero-shot", "steps", "other objects", "cpu s per run")


def lines(group: Group, done: list[tuple[FinetuneJob, FinetuneResult]]) -> Iterator[list[str]]:
    """Yields the rows of a group; for several sets, mean and deviation are over the sets."""
    names = {source.name for source in group.sources}
    own = [(job, tuned) for job, tuned in done if tuned.set in names]
    zero = [tuned for _, tuned in own if tuned.mode == ZERO_SHOT]
    for mode in (ZERO_SHOT, *MODES):
        for shots in SHOTS:
            some = [(job, tuned) for job, tuned in own if (tuned.mode, tuned.shots) == (mode, shots)]
            if not some:
                continue
            runs = [tuned for _, tuned in some]
            costs = [cost.cpu for job, _ in some if (cost := cost_of(job)) is not None]
            scenes = [run.scenes_before if mode == ZERO_SHOT else run.scenes_after for run in runs]
            yield [
                group.title,
                mode,
                str(shots),
                str(len(runs)),
                shown(run.test["AP"] for run in runs),
                shown(run.test["AP50"] for run in runs),
                "" if mode == ZERO_SHOT else ratio(runs, zero),
                f"{fmean(run.steps for run in runs):.0f}",
                shown(scenes),
                f"{fmean(costs):.0f}" if costs else "—",
            ]


def markdown(rows: list[list[str]], words: argparse.Namespace) -> str:
    rates = "".join(f", learning rate of {mode} {rate:g}" for mode, rate in words.lr)
    text = [" | ".join(("", *row, "")).strip() for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    text += [
        "",
        f"{words.model}, short side {words.imgsz}; at most about {words.steps} steps for few examples and "
        f"{words.whole_steps} for all, batches of 4{rates}. AP on the test images in percent, mean ± standard "
        f"deviation over seeds, of mini-ODinW over its {len(MINI)} sets ({', '.join(MINI)}). Other objects: AP on "
        f"{words.scenes} synthetic scenes of objects that are not in the set.",
    ]
    return "\n".join(text) + "\n"


def rate(word: str) -> tuple[str, float]:
    """Reads 'full=0.001' as mode and learning rate."""
    mode, _, value = word.partition("=")
    if mode not in MODES:
        raise argparse.ArgumentTypeError(f"{word!r} is not MODE=RATE with one of {', '.join(MODES)}")
    return mode, float(value)


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder with odinw/Raccoon and odinw/BCCD")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--steps", type=int, default=50, help="steps of few-shot runs")
    parser.add_argument("--whole-steps", type=int, default=112, help="steps of runs on all images")
    parser.add_argument("--scenes", type=int, default=40, help="number of synthetic scenes")
    parser.add_argument(
        "--lr", type=rate, nargs="*", default=[("full", 3e-4)], help="MODE=RATE; default: the published rates"
    )
    parser.add_argument("--sets", nargs="*", help="subset of Raccoons, BCCD and mini-ODinW")
    parser.add_argument("--modes", nargs="*", default=MODES)
    parser.add_argument("--shots", nargs="*", help="subset of 0, 1, 3, 10 and all")
    parser.add_argument("--seeds", type=int, nargs="*", help="subset of the seeds")
    parser.add_argument("--processes", type=int, default=2, help="number of processes, each with one thread")
    words = parser.parse_args()
    found = groups(words)
    wanted = [job for group in found for job in jobs(group, words)]
    began = time.perf_counter()
    done = []
    for job, tuned in run(wanted, words.processes):
        done.append((job, tuned))
        cost = cost_of(job)
        print(
            f"{len(done)}/{len(wanted)} {time.perf_counter() - began:5.0f} s  {tuned.set} {tuned.mode} {tuned.shots} "
            f"seed {tuned.seed}: AP {shown([tuned.test['AP']])}, AP50 {shown([tuned.test['AP50']])}"
            + (f", {cost.cpu:.0f} s of processor time" if cost else ""),
            flush=True,
        )
    text = markdown([line for group in found for line in lines(group, done)], words)
    with whole_file(words.out / "table.md") as file:
        file.write(text.encode())
    with whole_file(words.out / "results.json") as file:
        runs = [msgspec.to_builtins(tuned) for _, tuned in done]
        file.write(msgspec.json.format(msgspec.json.encode({"unit": "percent", "runs": runs})) + b"\n")
    print(text)


if __name__ == "__main__":
    main()

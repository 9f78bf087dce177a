"""Scores a model on synthetic scenes, mini-ODinW and photographs, in one table, as `glip eval` does.

    OMP_NUM_THREADS=1 python -m benchmarks.real_numbers --data DIR --out real/

Scenes and mini-ODinW are composed in --out. DIR holds odinw/Raccoon/Raccoon.v2-raw.coco, odinw/BCCD/BCCD.v3-raw.coco
and coco; missing sets are reported and left out. Repeating the command resumes it; if all images are labelled, it only
scores. Writes real_numbers.md, a table for documents, and real_numbers.json with all values.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glip.data.synthetic import SceneJob, load_pool, write_mini_odinw, write_scenes
from glip.detectors.spec import DetectorSpec
from glip.evaluation.results import EvaluationResult, SetResult
from glip.evaluation.run import EvalRequest, evaluate
from glip.files import whole_file

SEED = 20_000  # far from those of the training
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A line of the table.

    Attributes:
        title: for people.
        dataset, split: as `glip eval` takes them.
        made: whether the folder is composed here.
    """

    title: str
    dataset: Path
    split: str | None
    made: bool = False


def wanted(data: Path, made: Path) -> Iterator[Wanted]:
    """Yields all lines of the table."""
    for split in ("seen", "unseen pairs"):
        yield Wanted(f"scenes, {split}", made / f"scenes-{split.replace(' ', '-')}", None, made=True)
    yield Wanted("mini-ODinW, 13 sets, test", made / "mini-odinw", "test", made=True)
    for name, folder in (("Raccoon", "Raccoon/Raccoon.v2-raw.coco"), ("BCCD", "BCCD/BCCD.v3-raw.coco")):
        for split in ("valid", "test"):
            yield Wanted(f"{name}, {split}", data / "odinw" / folder, split)
    for split in ("val", "train"):
        yield Wanted(f"COCO, images of {split}2017", data / "coco", split)


def compose(folder: Path, scenes: int) -> None:
    """Composes scenes or mini-ODinW if the folder does not exist."""
    if folder.is_dir():
        return
    if folder.name == "mini-odinw":
        write_mini_odinw(folder, load_pool(), scenes, SEED)
        return
    split = folder.name.removeprefix("scenes-").replace("-", " ")
    # As many classes as fit into few captions, in images of the size that the model was trained with.
    job = SceneJob(count=scenes, seed=SEED, split=split, minimum_wh=(160, 160), maximum_wh=(384, 384), names=60)  # type: ignore[arg-type]  # checked there
    write_scenes(job, folder)


def numbers(result: EvaluationResult) -> dict[str, float | None]:
    """Returns the scores of one set, or their means over several sets."""
    found = {}
    for metric in METRICS:
        known = [value for item in result.sets if (value := item.numbers.get(metric)) is not None]
        found[metric] = sum(known) / len(known) if known else None
    return found


def counts(sets: Sequence[SetResult]) -> dict[str, int]:
    """Returns the numbers of images, classes and boxes."""
    return {
        "images": sum(item.images for item in sets),
        "classes": sum(len(item.classes) for item in sets),
        "boxes": sum(item.annotated for item in sets),
    }


def measure(item: Wanted, out: Path, model: str, limit: int | None, overwrite: bool) -> dict[str, Any]:
    """Scores one set; returns a line of the table with its protocol."""
    folder = out / "eval" / item.title.replace(", ", "-").replace(" ", "-")
    spec = DetectorSpec(model, device="cpu", offline=True)
    result = evaluate(
        EvalRequest(
            str(item.dataset), folder, detector=spec, overwrite=overwrite, split=item.split, limit=limit, gallery=4
        )
    )
    notes = [note for one in result.sets for note in one.notes]
    line = {"title": item.title, **counts(result.sets), **numbers(result)}
    return line | {"protocol": dict(result.protocol), "notes": notes, "files": str(folder)}


def as_markdown(lines: Sequence[Mapping[str, Any]], model: str) -> str:
    """Returns the table for documents."""
    columns = ("images", "classes", "boxes", *METRICS)
    rows = [f"| set | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for line in lines:
        cells = [("—" if line[c] is None else f"{line[c]:.1f}" if c in METRICS else str(line[c])) for c in columns]
        rows.append(f"| {line['title']} | {' | '.join(cells)} |")
    words = [f"{topic}: {text}" for topic, text in lines[0]["protocol"].items() if topic in _SHOWN] if lines else []
    said = "; ".join(words)
    return "\n".join([*rows, "", f"`{model}`, in percent; the mean over several sets. {said}.", ""])


_SHOWN = ("prompts", "resolution", "batch size", "precision", "thresholds", "limits")


def main() -> None:
    """Composes the sets, scores them and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with odinw and coco")
    parser.add_argument("--out", type=Path, default=Path("real_numbers"))
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--scenes", type=int, default=60, help="number of images of each kind of scenes and of each mini set"
    )
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--overwrite", action="store_true", help="label again, for another model in the same folder")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    lines = []
    for item in wanted(options.data, options.out / "made"):
        if item.made:
            compose(item.dataset, options.scenes)
        if not item.dataset.is_dir():
            logger.warning("%s is not there; %s is left out.", item.dataset, item.title)
            continue
        wall, own = time.perf_counter(), time.process_time()
        lines.append(measure(item, options.out, options.model, options.limit, options.overwrite))
        wall, own = time.perf_counter() - wall, time.process_time() - own
        # On a machine that others use, too, the processor's seconds tell how long it would take alone.
        logger.info("%s: AP %.1f, %.0f s, %.0f s of one core", item.title, lines[-1]["AP"] or 0.0, wall, own)
    text = as_markdown(lines, options.model)
    for name, content in (("real_numbers.md", text), ("real_numbers.json", json.dumps(lines, indent=2))):
        with whole_file(options.out / name) as file:
            file.write(content.encode())
    print(text)


if __name__ == "__main__":
    main()

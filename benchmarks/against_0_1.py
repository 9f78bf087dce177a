"""Compares labelling with version 0.1.0: the same images and configurations must give the same records, byte for byte.

    python -m benchmarks.against_0_1              # tiny random model and the embedded nano
    python -m benchmarks.against_0_1 --only tiles --images some/folder

Version 0.1.0 (commit b10c474) is extracted from git into a temporary folder, and each version runs `glip label` in
processes of its own. It also checks that this version resumes and exports a folder that 0.1.0 labelled.

Texts that explain a failure may be reworded: they are compared by presence only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from glip.weights.random_weights import random_model

ROOT = Path(__file__).resolve().parent.parent
VERSION_0_1_0 = "b10c474"
NAMES = ("person", "dog", "car", "red ball", "traffic light", "cat", "tree", "bottle")
MANY = tuple(f"{colour} {thing}" for colour in ("red", "green", "blue", "small", "big", "old") for thing in NAMES * 2)
MODELS = ("tiny", "nano")


# Runs every command of a list inside one process: opening torch takes longer than labelling.
RUNNER = """
import contextlib, io, json, sys
from glip_cli.main import run
results = []
for words in json.load(sys.stdin):
    said = io.StringIO()
    code = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            run(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
    results.append((code, said.getvalue()[-400:]))
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Case:
    """One configuration of `glip label`.

    Attributes:
        name: of the row.
        words: of the command, beside images, model and output folder.
    """

    name: str
    words: tuple[str, ...]


def cases(folder: Path) -> tuple[Case, ...]:
    """Returns the configurations; files that they need are in `folder`."""
    prompt = ("--prompt", " . ".join(NAMES))
    return (
        Case("plain", prompt),
        Case("many names", ("--prompt", f"@{folder / 'many.txt'}")),
        Case("class file", ("--classes", str(folder / "classes.yaml"))),
        Case("one caption", ("--prompt", "a dog beside a red car", "--tokens-positive", "[[[0,5]],[[13,22]]]")),
        Case("captions", ("--captions", str(folder / "captions.jsonl"), "--phrase", "dog", "--phrase", "red car")),
        Case("tiles", (*prompt, "--tile", "128", "--overlap", "0.25")),
        Case("tiles, wbf", (*prompt, "--tile", "128", "--tile-merge", "wbf", "--batch", "2")),
        Case("candidates", (*prompt, "--record", "candidates")),
        Case("fast decode", (*prompt, "--fast-decode")),
        Case("batch of 2", (*prompt, "--batch", "2")),
        Case("floor 0.3", (*prompt, "--floor", "0.3")),
        Case("floor 0.01", (*prompt, "--floor", "0.01", "--conf", "0.02")),
    )


def write_inputs(folder: Path) -> Path:
    """Writes images and the files of the cases; returns the folder of the images."""
    images = folder / "images"
    images.mkdir(parents=True)
    captions = []
    for index, (width, height) in enumerate(((200, 150), (320, 240), (150, 200), (400, 160), (240, 320), (64, 48))):
        draw_scene(index, width, height).save(images / f"p{index}.{'jpg' if index % 2 else 'png'}")
        name = f"p{index}.{'jpg' if index % 2 else 'png'}"
        captions.append(
            {"file_name": name, "caption": f"a dog and a red car, image {index}" if index != 4 else "nothing"}
        )
    (images / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "many.txt").write_text("\n".join(dict.fromkeys(MANY)))
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    (folder / "classes.yaml").write_text(
        "person:\n  prompts: [person, man]\n  conf: 0.4\n  id: 3\n  negative: [mannequin]\nanimal: [dog, cat]\ncar:\n"
    )
    return images


def draw_scene(index: int, width: int, height: int) -> Image.Image:
    """Draws shapes on noise, always the same for one index."""
    random = np.random.default_rng(index)
    image = Image.fromarray(random.integers(60, 120, (height, width, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = int(random.integers(0, width - 20)), int(random.integers(0, height - 20))
        side = int(random.integers(10, 60))
        colour = tuple(random.integers(0, 256, 3).tolist())
        (pen.ellipse if random.random() < 0.5 else pen.rectangle)((x, y, x + side, y + side), fill=colour)
    return image


def extract_0_1_0(folder: Path) -> Path:
    """Extracts version 0.1.0 from git; returns its folder."""
    archive = subprocess.run(["git", "archive", VERSION_0_1_0], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def run_commands(source: Path, commands: Sequence[Sequence[object]]) -> list[tuple[int, str]]:
    """Runs commands with one version, in one process; returns exit code and stderr of each."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    words = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=words,
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{source}: {done.stderr}")
    return [(code, said) for code, said in json.loads(done.stdout)]


def records_of(out: Path) -> list[bytes]:
    """Returns the lines of all records, with every explanation of a failure replaced."""
    lines = []
    for path in sorted((out / "records").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            if b'"error":' in line:
                record = json.loads(line)
                # The stamp of an image without a usable caption contains a hash of the reason.
                stamp = "-".join(record["stamp"].split("-")[:2])
                line = json.dumps(record | {"error": "…", "stamp": stamp}).encode()
            lines.append(line)
    return lines


def boxes_in(lines: Sequence[bytes]) -> int:
    """Returns the number of boxes in records."""
    return sum(len(json.loads(line).get("scores", ())) for line in lines)


def label_words(case: Case, model: str, images: Path, out: Path) -> tuple[object, ...]:
    """Returns the command that labels images with a configuration."""
    fixed = ("--model", model, "--device", "cpu", "--imgsz", 128, "--out", out, "--no-report", "--offline")
    return ("label", images, *case.words, *fixed)


def compare(old: Path, new: Path) -> str:
    """Returns whether two output folders hold the same records and the same boxes."""
    if records_of(old) != records_of(new):
        return "DIFFERENT records"
    before, now = (json.loads((out / "annotations.coco.json").read_text()) for out in (old, new))
    differing = [key for key in ("images", "categories", "annotations") if before[key] != now[key]]
    return f"DIFFERENT {', '.join(differing)} in annotations.coco.json" if differing else "equal"


def resume_and_export(selected: Sequence[tuple[Case, str]], images: Path, folder: Path) -> list[str]:
    """Resumes the folders of version 0.1.0 with this version, after one shard is lost, and exports them."""
    commands: list[Sequence[object]] = []
    kept: list[list[bytes]] = []
    for index, (case, model) in enumerate(selected):
        out = folder / f"old-{index}"
        kept.append(records_of(out))
        sorted((out / "records").glob("*.jsonl"))[-1].unlink()
        formats = "coco,coco-results,yolo,voc,labelstudio,cvat,csv" + (",grounding" if case.name == "captions" else "")
        floor = json.loads((out / "run.json").read_text())["floor"]
        target = ("--out", folder / f"export-{index}", "--conf", max(floor, 0.1), "--report")
        commands += [label_words(case, model, images, out), ("export", out, "--format", formats, *target)]
    results = run_commands(ROOT, commands)
    verdicts = []
    for index, records in enumerate(kept):
        resumed, exported = results[2 * index : 2 * index + 2]
        if resumed[0] not in (0, 1):
            verdicts.append(f"NOT RESUMED: {resumed[1].strip()}")
        elif sorted(records_of(folder / f"old-{index}")) != sorted(records):
            verdicts.append("RESUMED WITH OTHER RECORDS")
        else:
            verdicts.append("resumes, exports" if exported[0] == 0 else f"NOT EXPORTED: {exported[1].strip()}")
    return verdicts


def main() -> int:
    """Prints the table; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="run the configurations whose name contains this text")
    parser.add_argument("--models", default=",".join(MODELS), help="tiny (random numbers), nano, or a model folder")
    parser.add_argument("--images", type=Path, help="folder of images instead of drawn ones")
    parser.add_argument("--old", type=Path, help="folder of version 0.1.0 instead of the one in git")
    told = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        old = told.old or extract_0_1_0(folder / "source")
        images = told.images or write_inputs(folder / "in")
        models = {model: str(folder / "tiny") if model == "tiny" else model for model in told.models.split(",")}
        if "tiny" in models:
            random_model(folder / "tiny", "tiny")
        chosen = [case for case in cases(folder / "in") if told.only in case.name]
        selected = [(case, path) for path in models.values() for case in chosen]
        for source, prefix in ((old, "old"), (ROOT, "new")):
            commands = [
                label_words(case, path, images, folder / f"{prefix}-{index}")
                for index, (case, path) in enumerate(selected)
            ]
            for (case, _), (code, said) in zip(selected, run_commands(source, commands), strict=True):
                if code not in (0, 1):
                    raise SystemExit(f"{prefix}, {case.name}: exit code {code}: {said}")
        verdicts = [compare(folder / f"old-{index}", folder / f"new-{index}") for index in range(len(selected))]
        counts = [records_of(folder / f"new-{index}") for index in range(len(selected))]
        resumed = resume_and_export(selected, images, folder)
    names = {path: model for model, path in models.items()}
    for (case, path), lines, verdict, again in zip(selected, counts, verdicts, resumed, strict=True):
        print(f"{names[path]:6} {case.name:12} {len(lines):3} images {boxes_in(lines):6} boxes  {verdict}; {again}")
    good = all(verdict == "equal" for verdict in verdicts) and all(again == "resumes, exports" for again in resumed)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())

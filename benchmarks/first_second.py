"""Measures how soon the command line refuses bad input: processor seconds of one process per error.

    python -m benchmarks.first_second

The bar is one second of user time. `tests/test_first_second.py` checks the cause: no error may import torch.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

# Command lines with one wrong word each, and the word that the message must name. `{here}` is a folder with one image.
CASES: tuple[tuple[str, str], ...] = (
    ("label {here}", "--prompt"),
    ("label nowhere -p cat", "nowhere"),
    ("label {here} -p cat --model glip-x", "glip-x"),
    ("label {here} -p cat --model glip-t --offline", "nano"),
    ("label {here} -p cat --adapter nothing", "nothing"),
    ("label {here} -p cat --conf 1.5", "1.5"),
    ("label {here} -p cat --conf high", "high"),
    ("label {here} -p cat --floor 2", "2"),
    ("label {here} -p cat --device tpu", "tpu"),
    ("label {here} -p cat --precision fp8", "fp8"),
    ("label {here} -p cat --imgsz 7", "7"),
    ("label {here} -p cat --batch 0", "0"),
    ("label {here} -p cat --tile 1", "1"),
    ("label {here} -p cat --record all", "all"),
    ("label {here} -p @cocoo", "cocoo"),
    ("label {here} -c nothing.yaml", "nothing.yaml"),
    ("label {here} --captions sidecar --chunker nltk", "nltk"),
    ("label {here} -p cat --merge nothing.json", "nothing.json"),
    ("export {here}", "run.json"),
    ("eval --dataset cocoo", "coco-o"),
    ("eval --dataset {here}/none.json", "none.json"),
    ("calibrate nothing.json -r {here}", "run.json"),
    ("finetune nothing", "nothing"),
    ("finetune {set} --mode promt --model nano", "promt"),
    ("finetune {set} --shots many --model nano", "many"),
    ("finetune {set} --recipe cocoa --model nano", "cocoa"),
    ("finetune {set} --epochs 0 --model nano", "0"),
    ("finetune {set} --model glip-x", "glip-x"),
    ("pretrain --out run --preset nanno", "nanno"),
    ("pretrain --out run --init nowhere", "nowhere"),
    ("pretrain --out run --set fit.nothing=1", "nothing"),
    ("bench --model glip-x", "glip-x"),
    ("bench --architecture giant", "giant"),
    ("bench --precision fp8", "fp8"),
    ("bench --size big", "big"),
    ("models inspect nothing.pth", "nothing.pth"),
    ("models convert nothing.pth -o out", "nothing.pth"),
    ("models pull glip-x", "glip-x"),
    ("models random out --architecture giant", "giant"),
    ("models remove glip-x", "glip-x"),
    ("review push nowhere --no-launch", "nowhere"),
    ("data synthetic out --size big", "big"),
    ("data check nowhere", "nowhere"),
    ("lable {here}", "label"),
)


def command_line(template: str, folder: Path) -> list[str]:
    """Returns the words of a case, with its files in `folder`: one image, and a COCO folder."""
    return template.format(here=folder / "images", set=folder / "set").split()


def write_files(folder: Path) -> None:
    """Writes the files that the cases name."""
    from PIL import Image

    image = Image.new("RGB", (64, 48))
    (folder / "images").mkdir()
    image.save(folder / "images" / "a.png")
    for split in ("train", "valid", "test"):
        part = folder / "set" / split
        part.mkdir(parents=True)
        image.save(part / f"{split}.png")
        (part / "_annotations.coco.json").write_text(
            f'{{"images":[{{"id":1,"file_name":"{split}.png","width":64,"height":48}}],"categories":[{{"id":1,"name":'
            '"cat"}],"annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,20,20],"area":400,"iscrowd":0}]}'
        )


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        environment = {**os.environ, "GLIP_HOME": str(folder / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
        print("user s  exit  command line")
        slowest = 0.0
        for template, _ in CASES:
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            words = [sys.executable, "-m", "glip_cli.main", *command_line(template, folder)]
            done = subprocess.run(words, capture_output=True, cwd=folder, env=environment, check=False)
            seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            slowest = max(slowest, seconds)
            print(f"{seconds:6.2f}  {done.returncode:4}  glip {template}", flush=True)
        print(f"slowest: {slowest:.2f} s")


if __name__ == "__main__":
    main()

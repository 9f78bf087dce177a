"""Kills `glip label` at random moments, many times, and checks that no byte of the result differs.

    python -m benchmarks.soak_kill --kills 100

Labels a folder with a detector that needs no model, in its own process. The process is killed at a random moment (while
it starts, labels, or writes the final files) and the command is repeated until it finishes. Then the final files are
compared with those of a run without interruption. Some rounds use larger batches, or start again with --overwrite.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from glip.detectors.spec import InferenceOptions
from glip.labeling.job import LabelJob, label
from glip.labeling.records import Head, series_of, shard_files
from tests.labeling.fake import NAMES, FakeDetector, final_bytes, make_images, start_command

SECONDS_A_IMAGE = 0.01
SHARD_SIZE = 6


@dataclass
class Soak:
    """A folder of images and the counts of what happened to it.

    Attributes:
        root: holds the images, the reference and the folder under attack.
        batch: images that run together.
        random: decides when to kill.
        longest: seconds that a whole life takes, as seen so far.
        kills: how many lives were ended.
        moments: what was there when a life was ended.
    """

    root: Path
    batch: int
    random: random.Random
    longest: float = 0.0
    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def reference(self) -> dict[str, bytes]:
        """Returns the final files of a run without interruption."""
        options = InferenceOptions(32, self.batch)
        whole = self.root / "whole"
        job = LabelJob((str(self.root / "in"),), NAMES, out=whole, options=options, shard_size=SHARD_SIZE)
        label(job, detector=FakeDetector(crowd_matters=True))
        return final_bytes(job.out)

    def live(self, *, overwrite: bool, mortal: bool) -> bool:
        """Runs the command once and kills it at a random moment; returns whether it finished before."""
        words = ["label", self.root / "in", "--prompt", ". ".join(NAMES), "--out", self.out, "--imgsz", 32]
        words += ["--shard-size", SHARD_SIZE, "--batch", self.batch, *(["--overwrite"] if overwrite else [])]
        started = time.monotonic()
        process = start_command(words, self.root / "log.txt", delay=SECONDS_A_IMAGE, crowd_matters=True)
        process.join(self.random.uniform(0, 1.1 * self.longest) if mortal else 60)
        if process.exitcode is None:
            self.moments[self._moment()] += 1
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            self.kills += 1
            return False
        log = (self.root / "log.txt").read_text()
        assert process.exitcode == 1, log
        assert "1 of" in log.splitlines()[-1], log  # the broken image
        self.longest = time.monotonic() - started
        return True

    def _moment(self) -> str:
        if not (self.out / "run.json").exists():
            return "before the first note"
        if any(self.out.rglob("*.part")):
            return "while a file was written"
        if (self.out / "annotations.coco.json").exists():
            return "while finishing, or in a finished folder"
        return "while labelling"

    def check_records(self) -> None:
        """Checks that every shard is complete and that no image is twice in a series."""
        seen: Counter[tuple[int, str]] = Counter()
        for path in shard_files(self.out):
            lines = path.read_bytes().splitlines(keepends=True)
            assert lines, path
            assert lines[-1].endswith(b"\n"), path
            heads = [msgspec.json.decode(line, type=Head) for line in lines]
            seen.update((series_of(path), head.file_name) for head in heads)
        assert not seen or max(seen.values()) == 1, seen.most_common(1)


def attack(kills: int, images: int, seed: int) -> None:
    """Kills the command the given number of times, then lets it finish and compares all bytes."""
    chance = random.Random(seed)
    total, folders, moments, started = 0, 0, Counter[str](), time.monotonic()
    while total < kills:
        root = Path(tempfile.mkdtemp(prefix="glip-soak-"))
        make_images(root / "in", images)
        (root / "in" / "broken.png").write_bytes(b"\x89PNG")
        soak = Soak(root, batch=chance.choice([1, 1, 3]), random=chance)
        expected = soak.reference()
        soak.live(overwrite=False, mortal=False)  # to learn how long a life takes
        shutil.rmtree(soak.out)
        for _ in range(4):
            overwrite = soak.out.exists()  # from the second time on
            while not soak.live(overwrite=overwrite, mortal=total + soak.kills < kills):
                soak.check_records()
                overwrite = overwrite and chance.random() < 0.3
            soak.check_records()
            assert final_bytes(soak.out) == expected, f"the final files in {soak.out} differ from {root / 'whole'}"
        total, folders, moments = total + soak.kills, folders + 1, moments + soak.moments
        shutil.rmtree(root)
        print(f"{total} kills, {folders} folders, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{total} kills: nothing lost, nothing doubled, all final files equal. Killed {dict(moments)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    attack(options.kills, options.images, options.seed)


if __name__ == "__main__":
    main()

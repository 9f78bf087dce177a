"""Labels thousands of damaged images and checks that each is labelled or recorded with an error.

    python -m benchmarks.soak_mutations --count 10000

Bytes of real images of all formats are changed, removed, cut off and spliced. `glip label` must not crash or hang, must
record every image once, and must write exactly the labelled ones into the annotation files. Boxes come from a detector
without a model. --photographs FOLDER adds images of your own.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from glip.data.coco import load_coco
from glip.detectors.spec import InferenceOptions
from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.job import LabelJob, label
from glip.labeling.records import read_records
from tests.images.test_mutations import mutated, small_images
from tests.labeling.fake import NAMES, FakeDetector

_EXAMPLES = Path(__file__).parent.parent / "examples" / "images"


def write_mutations(folder: Path, seeds: list[bytes], count: int, dice: random.Random) -> None:
    """Writes damaged images, a thousand per folder, with names that do not tell the format."""
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        content = mutated(seeds[number % len(seeds)], dice.choice(seeds), dice)
        (place / f"{number:06}.jpg").write_bytes(content)


def main() -> None:
    """Runs the check with the options of the command line; fails if an image is lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--photographs", type=Path)
    words = parser.parse_args()
    photographs = sorted(_EXAMPLES.glob("*.jpg"))
    if words.photographs:
        photographs += sorted(path for path in words.photographs.rglob("*.jpg"))[:40]
    seeds = [*small_images(), *(path.read_bytes() for path in photographs)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_mutations(root / "in", seeds, words.count, random.Random(words.seed))
        job = LabelJob((str(root / "in"),), NAMES, out=root / "out", options=InferenceOptions(32), report=False)
        start = time.perf_counter()
        summary = label(job, detector=FakeDetector())
        took = time.perf_counter() - start
        records = list(read_records(root / "out"))
        names = [record.file_name for record in records]
        failed = [record for record in records if record.error is not None]
        assert len(names) == len(set(names)) == summary.images == words.count
        assert summary.failed == len(failed)
        export(root / "out", root / "files", ["coco"], ExportSettings(conf=0.1))
        listed = {image.file_name for image in load_coco(root / "files" / "annotations.coco.json").images}
        assert listed == set(names) - {record.file_name for record in failed}
    reasons = Counter(re.sub(r"\d+", "N", record.error or "") for record in failed)
    print(f"{words.count} images: {len(listed)} labelled, {len(failed)} recorded with a reason, {took:.0f} s")
    for reason, count in reasons.most_common():
        print(f"{count:7} {reason}")


if __name__ == "__main__":
    main()

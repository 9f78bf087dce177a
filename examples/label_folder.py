"""Labels a folder, then writes the labels with a higher threshold and in another format, without the model.

python examples/label_folder.py IMAGES OUT 'person . hard hat .' [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

from glip.detectors.spec import DetectorSpec
from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.job import LabelJob, label
from glip.names import split_names


def main(images: str, out: str, prompt: str, model: str = "nano") -> None:
    """Prints the boxes of each class at the model's threshold, and how many remain at 0.7."""
    job = LabelJob((images,), tuple(split_names(prompt)), out=Path(out), detector=DetectorSpec(model), report=False)
    summary = label(job)
    for name, boxes in summary.boxes.items():
        print(name, boxes)
    sure = export(Path(out), Path(out) / "sure", ["yolo"], ExportSettings(conf=0.7))
    print("at 0.7:", sure.boxes)


if __name__ == "__main__":
    main(*sys.argv[1:])

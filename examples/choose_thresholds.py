"""Finds the best threshold of each class from a few labelled images, without running the model again.

    python examples/choose_thresholds.py LABELLED.json RECORDS

RECORDS is the output folder of `glip label` on images that include those of LABELLED.json, a COCO file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from glip.evaluation.calibrate import calibrate


def main(labelled: str, records: str) -> None:
    """Prints each class with its threshold, or why there is none."""
    for row in calibrate(Path(labelled), Path(records), resamples=100).thresholds:
        print(row.name, row.why if row.threshold is None else f"{row.threshold.value:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Measures how much of the difference to the golden numbers is float32 rounding, in them and in our model.

    python -m benchmarks.golden_float64 T_astronaut_six T_astronaut_coco80 L_astronaut_coco80 L_astronaut_two

Runs our model on golden cases in float32 and in float64. Prints, for each, the largest relative error of a head output,
the number of boxes more than 0.01 pixels from the golden ones, and the largest distance. If float64 is as far away as
float32, the rounding of the golden numbers is the limit. Needs the folder of golden numbers (GLIP_PARITY, else
../shared/parity).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from glip.model.glip import GLIP
from tests.golden.cases import Case, deviations, partners, run_stages
from tests.golden.models import golden_model

ROOT = Path(__file__).parent.parent
HEAD = ("bbox_reg", "centerness", "token_logits")


def measure(model: GLIP, case: Case, dtype: torch.dtype) -> str:
    """Returns one row of the table."""
    arrays = run_stages(model, case, dtype).arrays
    heads = {name: found[0] for name, found in deviations(case, arrays).items() if name.startswith(HEAD)}
    worst = max(heads, key=lambda name: heads[name])
    pixels = [pair.pixels for k in range(len(case.meta["detections"])) for pair in partners(case, arrays, k)]
    beyond = sum(distance >= 0.01 for distance in pixels)
    return f"{case.name:28} {str(dtype)[6:]:8} {heads[worst]:.1e} {worst:18} {beyond:5} {max(pixels):9.4f}"


def main(names: list[str]) -> None:
    """Prints the table for the named cases."""
    folder = Path(os.environ.get("GLIP_PARITY", ROOT.parent / "shared" / "parity")) / "cases"
    print(f"{'case':28} {'computed':8} {'worst head output':26} {'>0.01':>5} {'largest':>9}  (boxes, pixels)")
    for name in names:
        case = Case.read(folder, name)
        model = golden_model(case.meta["variant"])
        for dtype in (torch.float32, torch.float64):
            print(measure(model.to(dtype), case, dtype), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["T_astronaut_six", "T_astronaut_coco80", "L_astronaut_coco80", "L_astronaut_two"])

"""Every stage of the model against the original's numbers, on the same pseudo-random weights.

Limits: relative L2 error 2e-4 and largest difference 1e-3 (GLIP-L 2e-3) in every stage; detections one to one with the
same labels, boxes within 0.01 pixels of the resized image, scores within 1e-4.

The goldens are float32 numbers themselves. Where a box comes from P6 or P7, whose anchors are up to 1024 pixels wide,
an error of 1e-5 in a delta, theirs or ours, is 0.01 to 0.05 pixels. Computed in float64, our model differs from the
goldens by up to 0.05 pixels there (`python -m benchmarks.golden_float64` prints both). ROUNDING says how many
such boxes an image may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.golden.cases import Case, deviations, partners, run_stages
from tests.golden.models import golden_model

COMMITTED = Path(__file__).parent.parent / "golden"
QUICK = [
    "A_astronaut_six",
    "A_chelsea+astronaut_six",
    "A_chelsea_coco80",
    "B_chelsea_six",
    "T_astronaut_coco80",
    "T_astronaut_six",
    "T_chelsea+astronaut_six",
    "T_chelsea_sentence",
    "T_chelsea_two",
]
FULL = [
    "A_astronaut_coco80",
    "A_astronaut_two",
    "A_chelsea_six",
    "A_chelsea_two",
    "T_astronaut_two",
    "T_chelsea_coco80",
    "T_chelsea_six",
    "T_coffee_wide_coco80",
    "L_astronaut_coco80",
    "L_astronaut_six",
    "L_astronaut_two",
    "L_chelsea+astronaut_six",
    "L_chelsea_coco80",
    "L_chelsea_six",
    "L_chelsea_two",
    "L_formula_six",
]


@dataclass(frozen=True)
class Rounding:
    """What rounding may do beyond the limits."""

    boxes: int = 2  # number of golden boxes of an image that may be farther than 0.01 pixels from ours
    pixels: float = 0.05  # distance that no box may reach
    stage: str = ""  # a stage that may be farther than 2e-4
    relative: float = 2e-4


# GLIP-L is eight blocks deep, and one anchor can answer for several of its detections. The named cases are those in
# which float64 is beyond the limits as well.
ROUNDING = {"L": Rounding(boxes=6)}
ROUNDING_OF_CASE = {
    "T_astronaut_coco80": Rounding(boxes=12),
    # One box amplifies rounding: the golden one lies 0.011 pixels from float64; ours lies 0.025 from the golden one if
    # MKL multiplies, and 0.053 if oneDNN does (AMD Zen 3). All others are within 0.001.
    "T_astronaut_six": Rounding(boxes=1, pixels=0.1),
    "L_astronaut_two": Rounding(boxes=6, stage="centerness_P7", relative=4e-4),
}


@pytest.mark.parametrize("name", ["A_formula_six", "T_formula_six"])
def test_a_bare_clone_proves_every_stage(name: str) -> None:
    check(Case.read(COMMITTED, name))


@pytest.mark.parametrize("name", QUICK)
def test_every_stage_equals_the_original(name: str, parity: Path) -> None:
    check(Case.read(parity / "cases", name))


@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_every_stage_equals_the_original_in_all_cases(name: str, parity: Path) -> None:
    check(Case.read(parity / "cases", name))


@pytest.mark.full
def test_no_golden_case_is_left_out(parity: Path) -> None:
    on_disk = {path.stem for variant in "ABTL" for path in (parity / "cases").glob(f"{variant}_*.json")}
    assert on_disk == {*QUICK, *FULL, "A_formula_six", "T_formula_six"}


def check(case: Case) -> None:
    variant = case.meta["variant"]
    rounding = ROUNDING_OF_CASE.get(case.name) or ROUNDING.get(variant, Rounding())
    arrays = run_stages(golden_model(variant), case).arrays
    most = 2e-3 if variant == "L" else 1e-3
    far = {
        stage: found
        for stage, found in deviations(case, arrays).items()
        if found[0] >= (rounding.relative if stage == rounding.stage else 2e-4) or found[1] >= most
    }
    assert not far, f"stages beyond the limits (relative, largest): {far}"
    for image, count in enumerate(case.meta["detections"]):
        assert len(arrays[f"det{image}_scores"]) == count
        pairs = partners(case, arrays, image)
        assert max(pair.score for pair in pairs) < 1e-4
        distances = sorted(pair.pixels for pair in pairs)
        assert sum(distance >= 0.01 for distance in distances) <= rounding.boxes, distances[-15:]
        assert distances[-1] < rounding.pixels

"""The published architectures with the golden weights."""

from __future__ import annotations

from functools import lru_cache

from glip.model.config import GLIP_L, GLIP_T, GLIP_T_A
from glip.model.glip import GLIP, build_glip
from glip.weights.convert import to_native
from tests.golden.weights import make_state

ARCHITECTURES = {"A": GLIP_T_A, "B": GLIP_T, "T": GLIP_T, "L": GLIP_L}


def golden_model(variant: str) -> GLIP:
    """The model of a variant, in evaluation mode; B and T share their weights. Not to be changed: tests share it."""
    return _build("T" if variant == "B" else variant)


# One at a time: GLIP-L alone holds 1.7 GB.
@lru_cache(maxsize=1)
def _build(variant: str) -> GLIP:
    return build_glip(ARCHITECTURES[variant], to_native(make_state(variant)).state).eval()

"""Reads D3: its three annotation files (all descriptions, present, absent) and the scenarios of its images.

d3_json/d3_{full,pres,abs}_annotations.json      COCO's form; classes are descriptions
d3_pkl/groups.pkl                                which descriptions belong to the scenario of which image
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glip.data.annotations import Truth
from glip.errors import InputError

PARTS = {"FULL": "d3_full_annotations.json", "PRES": "d3_pres_annotations.json", "ABS": "d3_abs_annotations.json"}


def read_parts(full: Path, truth: Truth) -> dict[str, Truth]:
    """Returns FULL, PRES and ABS, as far as their files exist.

    Args:
        full: the annotation file of FULL.
        truth: the content of `full`.

    Raises:
        InputError: a file cannot be used.
    """
    others = {part: full.parent / name for part, name in PARTS.items() if part != "FULL"}
    return {"FULL": truth, **{part: Truth.from_coco(path) for part, path in others.items() if path.is_file()}}


def read_scenarios(path: Path) -> Mapping[int, frozenset[int]]:
    """Returns for each image id the ids of the descriptions of its scenario, read from d3_pkl/groups.pkl.

    The file is a pickle, which could run any code; only numbers are accepted in it.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            groups = _NumbersOnly(file).load()
        pairs = [
            (int(image), frozenset(int(id) for id in group["inner_sent_id"]))
            for group in groups.values()
            for image in group["img_id"]
        ]
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. It is part of D3, in the folder d3_pkl.") from error
    except (pickle.UnpicklingError, EOFError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is not D3's list of scenarios (groups.pkl): {error!r}.") from error
    scenarios: dict[int, frozenset[int]] = {}
    for image, descriptions in pairs:
        scenarios[image] = scenarios.get(image, frozenset()) | descriptions
    return scenarios


class _NumbersOnly(pickle.Unpickler):
    """Reads plain values and NumPy's numbers; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the function or class that builds a NumPy number; raises UnpicklingError for any other name."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return lambda kind, content: kind.type(np.frombuffer(content, kind)[0])
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"it names {module}.{name}")

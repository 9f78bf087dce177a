"""Reads D3: its three annotation files (all descriptions, present, absent) and the scenarios of its images.

d3_json/d3_{full,pres,abs}_annotations.json      COCO's form; classes are descriptions
d3_pkl/groups.pkl                                which descriptions belong to the scenario of which image
"""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from glip.data.annotations import Truth
from glip.errors import InputError
from glip.files import read_content

_MAX_BYTES = 64_000_000  # of groups.pkl
_MAX_PAIRS = 20_000_000  # of images and descriptions; the published file has about a hundred thousand
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
    content = read_content(path, "D3's list of scenarios (groups.pkl)", _MAX_BYTES)
    try:
        _check_memo(content)
        groups = list(_NumbersOnly(BytesIO(content)).load().values())
        if sum(len(group["img_id"]) * (1 + len(group["inner_sent_id"])) for group in groups) > _MAX_PAIRS:
            raise ValueError(f"it has more than {_MAX_PAIRS} pairs of images and descriptions")
        pairs = [
            (int(image), frozenset(int(id) for id in group["inner_sent_id"]))
            for group in groups
            for image in group["img_id"]
        ]
    except Exception as error:  # damaged pickles raise exceptions of any kind
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"{path} is not D3's list of scenarios (groups.pkl): {reason}.") from error
    scenarios: dict[int, frozenset[int]] = {}
    for image, descriptions in pairs:
        scenarios[image] = scenarios.get(image, frozenset()) | descriptions
    return scenarios


def _check_memo(content: bytes) -> None:
    """Refuses a pickle that stores a value under a number beyond its length: that many entries would be allocated."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(str(argument)) <= len(content):
            raise pickle.UnpicklingError(f"it stores a value under the number {argument}")


class _NumbersOnly(pickle.Unpickler):
    """Reads plain values and NumPy's numbers; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the function or class that builds a NumPy number; raises UnpicklingError for any other name."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return lambda kind, content: kind.type(np.frombuffer(content, kind)[0])
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _number_type(code: str, *options: object) -> np.dtype[Any]:
    if not re.fullmatch(r"[<>=|]?[iuf][1248]", str(code)[:8]):
        raise pickle.UnpicklingError(f"it has values of the type {str(code)[:40]!r}")
    return np.dtype(str(code))

"""Find anything that can be named, in any image.

    from glip import load_detector

    detector = load_detector("glip-t")
    for found in detector.predict(["street.jpg"], "person . hard hat ."):
        print(found.boxes, found.scores, found.labels, found.names)

    from glip import label

    label("photos/", "person . hard hat .", out="labels/")  # a folder, as the command `glip label`

Public names are imported on first use, so that `import glip` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glip.detections import Detections
    from glip.detectors.glip import Detector
    from glip.detectors.spec import load_detector
    from glip.errors import GlipError
    from glip.labeling.label_folder import label
    from glip.prompts import Prompt, PromptSet

__all__ = ["Detections", "Detector", "GlipError", "Prompt", "PromptSet", "label", "load_detector"]

_HOME = {
    "Detections": "glip.detections",
    "Detector": "glip.detectors.glip",
    "GlipError": "glip.errors",
    "Prompt": "glip.prompts",
    "PromptSet": "glip.prompts",
    "label": "glip.labeling.label_folder",
    "load_detector": "glip.detectors.spec",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'glip' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

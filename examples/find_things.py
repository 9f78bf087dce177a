"""Finds named things in images, in a few lines.

    python examples/find_things.py MODEL 'person . hard hat .' IMAGE…

MODEL is a name of `glip models list` or a model folder.
"""

from __future__ import annotations

import sys

from glip import load_detector


def main(model: str, prompt: str, *images: str) -> None:
    """Prints what was found, a line a box: image, name, score, corners in pixels."""
    detector = load_detector(model)
    for image, found in zip(images, detector.predict(images, prompt, score_threshold=0.3), strict=True):
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            print(image, found.names[label], f"{score:.2f}", *(f"{side:.0f}" for side in box))


if __name__ == "__main__":
    main(*sys.argv[1:])

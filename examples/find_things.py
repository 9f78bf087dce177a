"""Finds named objects in images, in a few lines.

    python examples/find_things.py MODEL 'person . hard hat .' IMAGE…

MODEL is the name of a checkpoint (`glip models list`) or a model folder.
"""

from __future__ import annotations

import sys

from glip import load_detector


def main(model: str, prompt: str, *images: str) -> None:
    """Prints one line per box: image, name, score, x1, y1, x2, y2 in pixels."""
    detector = load_detector(model)
    for image, found in zip(images, detector.predict(images, prompt, score_threshold=0.3), strict=True):
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            print(image, found.names[label], f"{score:.2f}", *(f"{value:.0f}" for value in box))


if __name__ == "__main__":
    main(*sys.argv[1:])

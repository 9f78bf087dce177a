"""Draws the boxes that a model finds in one image.

python examples/draw_boxes.py IMAGE OUT.png 'person . hard hat .' [MODEL]
"""

from __future__ import annotations

import sys

from PIL import Image

from glip import load_detector


def main(image: str, out: str, prompt: str, model: str = "nano") -> None:
    """Writes the drawing, and prints the number of boxes."""
    detector = load_detector(model)
    (found,) = detector.predict([image], prompt, score_threshold=0.5)
    with Image.open(image) as opened:
        found.draw(opened).save(out)
    print(len(found), "boxes")


if __name__ == "__main__":
    main(*sys.argv[1:])

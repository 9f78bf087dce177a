"""Captions with the boxes of their phrases: what grounded pre-training reads, for images labelled with captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glip.data.grounding import grounding_writer
from glip.errors import InputError
from glip.files import whole_file
from glip.labeling.writers.base import AddImage, Facts, Image


@contextmanager
def write_grounding(path: Path, facts: Facts) -> Iterator[AddImage]:
    """Every image's caption, its phrases, and the boxes of each with their scores.

    Raises:
        InputError: the images were labelled with a class list.
    """
    info = {"description": "Labels made by glip", "glip": facts.provenance}
    with whole_file(path) as file, grounding_writer(file, info) as writer:

        def add(image: Image) -> None:
            if image.grounded is None:
                raise InputError(
                    "These images were labelled with a class list: there are no captions to ground. "
                    "Label with `glip label --captions`, or choose another format."
                )
            size_hw = (image.height, image.width)
            grounded = image.grounded
            writer.add(image.file_name, size_hw, grounded.caption, grounded.spans, grounded.found)

        yield add

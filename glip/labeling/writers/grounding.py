"""Captions with the boxes of their phrases: what grounded pre-training reads, for pictures labelled with captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glip.data.grounding import grounding_writer
from glip.errors import InputError
from glip.files import whole_file
from glip.labeling.writers.picture import AddPicture, Facts, Picture


@contextmanager
def write_grounding(path: Path, facts: Facts) -> Iterator[AddPicture]:
    """Every picture's caption, its phrases, and the boxes of each with their scores.

    Raises:
        InputError: the pictures were labelled with a class list.
    """
    info = {"description": "Labels made by glip", "glip": facts.provenance}
    with whole_file(path) as file, grounding_writer(file, info) as writer:

        def add(picture: Picture) -> None:
            if picture.grounded is None:
                raise InputError(
                    "These pictures were labelled with a class list: there are no captions to ground. "
                    "Label with `glip label --captions`, or choose another format."
                )
            size_hw = (picture.height, picture.width)
            grounded = picture.grounded
            writer.add(picture.file_name, size_hw, grounded.caption, grounded.spans, grounded.found)

        yield add

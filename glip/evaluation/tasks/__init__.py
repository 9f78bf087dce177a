"""The kinds of benchmark. A task knows how one kind of split is prompted, scored and described.

    detection.py          class lists, scored by the evaluator of COCO, LVIS or VOC
    phrase_grounding.py   sentences, scored by recall of their phrases (Flickr30k Entities)
    described_objects.py  descriptions as classes, each image prompted with those of its scenario (D3)

Another kind of score is one file here, and one line in the table of `glip.evaluation.run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from glip.data.benchmarks import Format
from glip.data.lookup import PromptStyle

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits
    from glip.evaluation.results import SetResult
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.records import Record

# Formats whose images all get one class list: only these can be scored with an adapter or test-time augmentation.
ONE_CLASS_LIST: frozenset[Format] = frozenset({"coco", "coco-images", "voc"})


@dataclass(frozen=True)
class ScoreOptions:
    """How a split is scored.

    Attributes:
        limit: score only the first N images; None for all.
        max_det: maximum number of boxes per image that are scored.
        prompts: how ODinW's classes are written; for the protocol's text.
        augmented: boxes come from test-time augmentation, which limits them in its own way.
    """

    limit: int | None = None
    max_det: int = 100
    prompts: PromptStyle = "plain"
    augmented: bool = False


class Score(Protocol):
    """The score of a split, and what is drawn of it."""

    @property
    def result(self) -> SetResult:
        """Returns the numbers."""
        ...

    def write(self, out: Path, gallery: int) -> list[Path]:
        """Writes the files of the score, and returns their paths.

        Args:
            out: folder of the split.
            gallery: maximum number of images with errors; 0 for none.

        Raises:
            JobFailed: a file cannot be written.
        """
        ...


class Task(Protocol):
    """One split of a benchmark, read and ready to be labelled and scored."""

    def images(self) -> Sequence[Path]:
        """Returns the absolute paths of the images to label; some may be missing."""
        ...

    def prompts(self, adapter: Path | None) -> PromptPlan:
        """Returns the prompts of the images.

        Args:
            adapter: file written by `glip finetune`; its prompt is used. Only for formats in `ONE_CLASS_LIST`.

        Raises:
            InputError: the adapter was tuned for other classes.
        """
        ...

    def limits(self) -> DetectionLimits:
        """Returns which boxes are recorded."""
        ...

    def score_records(self, records: Iterator[tuple[Path, Record]], notes: Sequence[str] = ()) -> Score:
        """Scores the boxes of a labelling run.

        Args:
            records: each image with its record.
            notes: sentences about the run.
        """
        ...

    def score_file(self, path: Path) -> Score:
        """Scores the boxes of a results file.

        Raises:
            InputError: the file cannot be read, or does not belong to the split.
        """
        ...

    def protocol(self) -> dict[str, str]:
        """Returns what a reader must know to compare the score: `prompts`, `limits` and, if special, `batch size`."""
        ...

    def limits_of_file(self) -> str:
        """Returns which boxes of a results file are scored, in words. How they were made is not known."""
        ...

"""Description detection on D3: classes are descriptions such as `a dog without a leash`.

COCO's score on three files of the same images: all descriptions (FULL), those that say what is there (PRES), and
those that say what is absent (ABS). In the published default, intra-scenario, an image is asked only for the
descriptions of the scenario that it was collected for; inter-scenario asks all descriptions of every image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Truth
from glip.evaluation.metrics.coco import CocoScores, coco_scores
from glip.evaluation.predictions import Predictions

# Words of a description, as the benchmark sorts them: 1 to 3, 4 to 6, 7 to 9, and more.
LENGTHS: Mapping[str, range] = {
    "short": range(1, 4),
    "middle": range(4, 7),
    "long": range(7, 10),
    "very long": range(10, 1000),
}


@dataclass(frozen=True, eq=False)
class DescribedScores:
    """COCO's scores of each part.

    Attributes:
        intra_scenario: images were scored for the descriptions of their own scenario only.
        parts: FULL, PRES and ABS, as far as they were given.
    """

    intra_scenario: bool
    parts: Mapping[str, CocoScores]

    def numbers(self) -> dict[str, float]:
        """AP of each part, 0 to 1; -1 where nothing can be scored."""
        return {name: scores.ap() for name, scores in self.parts.items()}

    def by_length(self, part: str = "FULL") -> dict[str, float]:
        """Mean AP of the descriptions of each length; -1 where there are none."""
        rows = [row for row in self.parts[part].per_class() if row.ap >= 0]
        groups = {
            name: [row.ap for row in rows if len(row.name.split(" ")) in words] for name, words in LENGTHS.items()
        }
        return {name: float(np.mean(values)) if values else -1.0 for name, values in groups.items()}


def described_scores(
    parts: Mapping[str, Truth], predictions: Predictions, scenarios: Mapping[int, frozenset[int]] | None
) -> DescribedScores:
    """Scores found boxes, whose classes are ids of descriptions.

    Args:
        parts: FULL, PRES and ABS; each is scored for its own descriptions.
        predictions: found boxes, of whatever was asked.
        scenarios: image id to the descriptions of its scenario, for intra-scenario: boxes of others are left out;
            None for inter-scenario.
    """
    if scenarios is not None:
        predictions = inside_scenarios(predictions, scenarios)
    scores = {}
    for name, truth in parts.items():
        known = np.isin(predictions.category_id, truth.category_ids) & np.isin(predictions.image_id, truth.image_ids)
        scores[name] = coco_scores(truth, predictions.rows(known))
    return DescribedScores(scenarios is not None, scores)


def inside_scenarios(predictions: Predictions, scenarios: Mapping[int, frozenset[int]]) -> Predictions:
    """The boxes of descriptions that belong to the scenario of their image."""
    own = [
        category in scenarios.get(image, ())
        for image, category in zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    ]
    return predictions.rows(np.array(own, bool))

"""COCO-O: COCO's classes in six other domains, and how much better a detector keeps up than its COCO score foretells.

Effective robustness is the mean AP over the domains less 0.45 times the AP on COCO val2017; 0.45 is the slope that the
benchmark's authors fitted to detectors of COCO ("COCO-O: A Benchmark for Object Detectors under Natural Distribution
Shifts", ICCV 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DOMAINS = ("sketch", "weather", "cartoon", "painting", "tattoo", "handmake")
SLOPE = 0.45


@dataclass(frozen=True)
class Robustness:
    """COCO-O's numbers, 0 to 1.

    Attributes:
        domains: AP of each domain.
        coco: AP on COCO val2017; None if it is not known.
    """

    domains: Mapping[str, float]
    coco: float | None = None

    @property
    def average(self) -> float:
        """Mean AP over the domains."""
        return sum(self.domains.values()) / len(self.domains)

    @property
    def effective(self) -> float | None:
        """Effective robustness; None without the AP on COCO."""
        return None if self.coco is None else self.average - SLOPE * self.coco


def missing_domains(found: Sequence[str]) -> tuple[str, ...]:
    """Which of the six are not there; an average over fewer is not the published number."""
    return tuple(domain for domain in DOMAINS if domain not in found)

"""The table of names against the key lists of the published files."""

from __future__ import annotations

import pytest

from glip.errors import InputError
from glip.model.config import GLIP_L, GLIP_T, GLIP_T_A, GLIPConfig
from glip.weights.convert import expected_shapes
from glip.weights.tensor_names import Layout, PartCounts, spell


@pytest.mark.parametrize("config", [GLIP_T_A, GLIP_T, GLIP_L])
def test_native_names_are_those_of_the_network(config: GLIPConfig) -> None:
    names = [row.native for row in spell(PartCounts.of_config(config))]
    assert sorted([*names, "head.scales"]) == sorted(expected_shapes(config))


@pytest.mark.parametrize("layout", ["native", "microsoft", "mmdet"])
@pytest.mark.parametrize("config", [GLIP_T_A, GLIP_L])
def test_no_two_tensors_share_a_name(config: GLIPConfig, layout: str) -> None:
    names = [getattr(row, layout) for row in spell(PartCounts.of_config(config))]
    assert len(set(names)) == len(names)
    assert not any("{" in name or "*" in name for name in names)


@pytest.mark.parametrize("layout", ["native", "microsoft", "mmdet"])
@pytest.mark.parametrize("config", [GLIP_T_A, GLIP_T, GLIP_L])
def test_counts_are_read_off_the_names(config: GLIPConfig, layout: Layout) -> None:
    names = [getattr(row, layout) for row in spell(PartCounts.of_config(config))]
    assert PartCounts.of_names(names, layout) == PartCounts.of_config(config)


@pytest.mark.parametrize(
    ("part", "beginning"), [("backbone", "backbone.stages.3"), ("text", "text_"), ("tower", "fus")]
)
def test_a_part_that_is_wholly_absent_is_named(part: str, beginning: str) -> None:
    names = [row.native for row in spell(PartCounts.of_config(GLIP_T)) if not row.native.startswith(beginning)]
    with pytest.raises(InputError, match=part):
        PartCounts.of_names(names, "native")


def test_absurd_numbers_in_a_name_cost_nothing() -> None:
    names = [row.native for row in spell(PartCounts.of_config(GLIP_T))]
    assert PartCounts.of_names([*names, "fusion.blocks.99999999999.x"], "native").blocks == 6

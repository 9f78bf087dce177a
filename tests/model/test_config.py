"""Architectures as data."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from glip.errors import InputError
from glip.model.config import GLIP_L, GLIP_NANO, GLIP_T, GLIP_T_A, GLIPConfig, config_from_dict, config_to_dict
from glip.model.glip import build_glip


@pytest.mark.parametrize(
    ("config", "parameters"), [(GLIP_T_A, 151_409_966), (GLIP_T, 231_759_662), (GLIP_L, 430_401_824)]
)
def test_parameters_are_counted_as_published(config: GLIPConfig, parameters: int) -> None:
    with torch.device("meta"):
        model = build_glip(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("config", [GLIP_T_A, GLIP_T, GLIP_L, GLIP_NANO])
def test_json_gives_the_same_config_back(config: GLIPConfig) -> None:
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_json_names_one_backbone_only() -> None:
    assert config_to_dict(GLIP_T).keys() & {"swin", "conv"} == {"swin"}
    assert config_to_dict(GLIP_NANO)["conv"] == {"network": "tf_efficientnet_lite0"}
    assert "swin" not in config_to_dict(GLIP_NANO)


@pytest.mark.parametrize("conv", [None, 3, {}, {"network": 3}, {"network": "resnet"}, {"network": "x", "width": 10**9}])
def test_only_known_convolutional_networks_are_built(conv: object) -> None:
    values = {**config_to_dict(GLIP_NANO), "conv": conv}
    with pytest.raises(InputError, match="known: tf_efficientnet_lite0"):
        config_from_dict(values)


def broken(**changes: Any) -> dict[str, Any]:
    return {**config_to_dict(GLIP_T), **changes}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "swin"),
        (broken(swin=None), "swin"),
        (broken(conv={"network": "tf_efficientnet_lite0"}), "model.conv"),
        (broken(colour=3), "colour"),
        (broken(channels="many"), "channels"),
        (broken(swin={"embed_dim": 96}), "depths"),
        (broken(text={"vocabulary": 3}), "vocabulary"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_field(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        config_from_dict(values)

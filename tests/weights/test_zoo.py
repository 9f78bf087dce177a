"""The rows of the zoo against the published names and scores."""

from __future__ import annotations

import re

import pytest
import torch

from glip.model.glip import build_glip
from glip.weights.zoo import (
    ARCHITECTURES,
    DEFAULT,
    WEIGHT_BYTES,
    ZOO,
    UnknownCheckpoint,
    architecture_name,
    find,
)

HOSTED_BY_OPENMMLAB = {
    "glip-t-a": "glip_tiny_a_mmdet-b3654169.pth",
    "glip-t-b": "glip_tiny_b_mmdet-6dfbd102.pth",
    "glip-t-c": "glip_tiny_c_mmdet-2fc427dd.pth",
    "glip-t": "glip_tiny_mmdet-c24ce662.pth",
    "glip-l": "glip_l_mmdet-abfe026b.pth",
}
ON_THE_HUB = {
    "glip-t-a-original": "glip_a_tiny_o365.pth",
    "glip-t-b-original": "glip_tiny_model_o365.pth",
    "glip-t-c-original": "glip_tiny_model_o365_goldg.pth",
    "glip-t-original": "glip_tiny_model_o365_goldg_cc_sbu.pth",
    "glip-l-original": "glip_large_model.pth",
}


# COCO AP of mmdet's zero-shot and fine-tuned file and of the original; LVIS minival AP and APr of mmdet's file;
# LVIS APr of the original's last and best step. mmdetection configs/glip/README.md, microsoft/GLIP README.md.
PUBLISHED = {
    "glip-t-a": (43.0, 53.3, 42.9, 20.2, 12.1, None, None),
    "glip-t-b": (44.9, 54.1, 44.9, 19.3, 8.6, None, None),
    "glip-t-c": (46.7, 55.2, 46.7, 25.2, 14.4, 14.3, 17.7),
    "glip-t": (46.6, 55.4, 46.6, 26.7, 18.1, 17.6, 20.1),
    "glip-l": (51.3, 59.4, 51.4, 36.1, 27.9, 29.3, 30.1),
}


@pytest.mark.parametrize(("name", "file"), HOSTED_BY_OPENMMLAB.items())
def test_mmdets_files_are_where_they_were_published(name: str, file: str) -> None:
    row = ZOO[name]
    assert row.url == f"https://download.openmmlab.com/mmdetection/v3.0/glip/{file}"
    assert row.hash_head == file[-12:-4]
    assert row.layout == "mmdet"


@pytest.mark.parametrize(("name", "file"), ON_THE_HUB.items())
def test_the_originals_are_on_the_hub(name: str, file: str) -> None:
    assert ZOO[name].url == f"https://huggingface.co/GLIPModel/GLIP/resolve/main/{file}"
    assert ZOO[name].hash_head is None
    assert ZOO[name].layout == "microsoft"


def test_the_default_is_the_released_glip_t() -> None:
    assert ZOO[DEFAULT].file_name == "glip_tiny_mmdet-c24ce662.pth"


def test_every_row_is_complete_and_no_file_stands_twice() -> None:
    assert len({row.url for row in ZOO.values()}) == len(ZOO)
    for name, row in ZOO.items():
        assert row.name == name
        assert row.architecture in ARCHITECTURES
        assert row.pretraining
        assert row.source
        assert row.hash_head is None or re.fullmatch("[0-9a-f]{8}", row.hash_head)
        assert row.coco_ap is not None or name.endswith("lvisbest")
        assert (row.finetuned == "COCO") == name.endswith("-coco") == ("funtune_coco" in row.url)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name: str) -> None:
    mmdet, tuned, original = (ZOO[name + ending] for ending in ("", "-coco", "-original"))
    best = ZOO.get(f"{name}-original-lvisbest")
    assert PUBLISHED[name] == (
        mmdet.coco_ap,
        tuned.coco_ap,
        original.coco_ap,
        mmdet.lvis_ap,
        mmdet.lvis_apr,
        original.lvis_apr,
        best.lvis_apr if best else None,
    )


def test_mirrors_take_the_place_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIP_MIRROR", "http://mirror.example/")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    assert ZOO["glip-l"].url == "http://mirror.example/mmdetection/v3.0/glip/glip_l_mmdet-abfe026b.pth"
    assert ZOO["glip-l"].hash_head == "abfe026b"
    assert ZOO["glip-l-original"].url == "https://hub.example/GLIPModel/GLIP/resolve/main/glip_large_model.pth"


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownCheckpoint, match=r"'glip-t-d'.*'glip-t"):
        find("glip-t-d")
    with pytest.raises(UnknownCheckpoint, match=r"'yolo'.*glip models list"):
        find("yolo")


def test_architectures_are_told_by_their_settings() -> None:
    assert [architecture_name(ZOO[name].config) for name in ("glip-t-a", "glip-t-b", "glip-l")] == [
        "glip-t-a",
        "glip-t",
        "glip-l",
    ]


@pytest.mark.parametrize("name", WEIGHT_BYTES)
def test_the_size_of_the_weights_is_that_of_the_architecture(name: str) -> None:
    with torch.device("meta"):
        model = build_glip(ARCHITECTURES[name])
    assert 4 * sum(parameter.numel() for parameter in model.parameters()) == WEIGHT_BYTES[name]

"""The published sets, in miniature, in the layouts that they are downloaded in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data.benchmarks import pretraining_rows
from glip.data.coco import CocoDataset, save_coco
from glip.data.datasets import DetectionStream, GroundingStream
from glip.data.grounding import GroundingDataset, save_grounding
from glip.data.mixing import Concatenation, Mixture
from glip.data.pretraining_sets import open_pretraining_set
from glip.errors import InputError
from tests.data.sets import coco, draw, grounding, number_of, phrases
from tests.tiny import letters_tokenizer

TOKENIZER = letters_tokenizer()


def renamed(dataset: Any, names: list[str]) -> Any:
    images = zip(dataset.images, names, strict=True)
    return msgspec.structs.replace(
        dataset, images=tuple(msgspec.structs.replace(image, file_name=name) for image, name in images)
    )


def write(dataset: CocoDataset | GroundingDataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_coco(path, dataset) if isinstance(dataset, CocoDataset) else save_grounding(path, dataset)


def boxes(tmp_path: Path) -> CocoDataset:
    return coco(tmp_path / "unused", ((0,), (1, 2)))


def captions(tmp_path: Path, **box: float) -> GroundingDataset:
    spans = ([[(2, 5)], [(12, 15)]], [[(2, 5)]])
    return grounding(tmp_path / "unused", ("a cat and a dog", "a dog"), spans, **box)


def objects365(root: Path) -> None:
    write(boxes(root), root / "objects365v1/objects365_train.json")
    for number in (0, 1):
        draw(root / f"objects365v1/train/{number}.png", number)


def objects365v2(root: Path) -> None:
    names = ["images/v1/patch0/objects365_v1_0.png", "images/v2/patch16/objects365_v2_1.png"]
    write(renamed(boxes(root), names), root / "objects365v2/annotations/zhiyuan_objv2_train.json")
    draw(root / "objects365v2/train/patch0/objects365_v1_0.png", 0)
    draw(root / "objects365v2/train/patch16/objects365_v2_1.png", 1)


def coco_2017(root: Path) -> None:
    write(boxes(root), root / "coco/annotations/instances_train2017.json")
    for number in (0, 1):
        draw(root / f"coco/train2017/{number}.png", number)


def flickr30k(root: Path) -> None:
    path = root / "mdetr_annotations/final_flickr_separateGT_train.json"
    write(captions(root), path)
    content = json.loads(path.read_text())
    for image in content["images"]:  # published like this
        image["height"], image["width"] = str(image["height"]), str(image["width"])
    path.write_text(json.dumps(content | {"info": [], "licenses": []}))
    for number in (0, 1):
        draw(root / f"flickr30k/flickr30k_images/{number}.png", number)


def mixed(root: Path) -> None:
    names = ["COCO_train2014_000000000009.png", "2354786.png"]
    write(renamed(captions(root), names), root / "mdetr_annotations/final_mixed_train.json")
    draw(root / "coco/train2014" / names[0], 0)
    draw(root / "gqa/images" / names[1], 1)


def mixed_no_coco(root: Path) -> None:
    write(captions(root), root / "mdetr_annotations/final_mixed_train_no_coco.json")
    for number in (0, 1):
        draw(root / f"gqa/images/{number}.png", number)


def pseudo_labelled(root: Path) -> None:
    for name in ("cc3m", "cc12m", "sbu"):
        write(captions(root, score=0.7), root / name / "grounding.json")
        for number in (0, 1):
            draw(root / f"{name}/images/{number}.png", number)


MAKERS = {
    "objects365": objects365,
    "objects365v2": objects365v2,
    "coco": coco_2017,
    "flickr30k": flickr30k,
    "mixed": mixed,
    "mixed-no-coco": mixed_no_coco,
    "cc3m": pseudo_labelled,
    "cc12m": pseudo_labelled,
    "sbu": pseudo_labelled,
}


def test_every_published_layout_is_tested() -> None:
    assert set(pretraining_rows()) == {*MAKERS, "coco-folder", "grounding-folder"}


@pytest.mark.parametrize("name", MAKERS)
def test_every_layout_is_read_where_its_makers_put_it(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    stream = open_pretraining_set(name, tmp_path, TOKENIZER)
    assert stream.epoch_length == 2
    examples = {number_of(example): example for example in (stream.example(0), stream.example(1))}
    assert set(examples) == {0, 1}
    said = [[text for box in phrases(examples[number]) for text in box] for number in (0, 1)]
    assert said == (
        [["cat"], ["dog", "red kite"]] if isinstance(stream, DetectionStream) else [["cat", "dog"], ["dog"]]
    )
    assert open_pretraining_set(name, tmp_path, TOKENIZER, copies=3).epoch_length == 6


@pytest.mark.parametrize("name", MAKERS)
def test_a_missing_file_is_named_with_the_whole_layout(name: str, tmp_path: Path) -> None:
    reads = pretraining_rows()[name].pretraining
    assert reads is not None
    annotations, images = reads.files.annotations, reads.files.images
    with pytest.raises(InputError) as error:
        open_pretraining_set(name, tmp_path, TOKENIZER)
    assert str(error.value).startswith(str(tmp_path / annotations[0]))
    for path in (*annotations, *(path for group in images for path in group)):
        assert path in str(error.value)
    (tmp_path / annotations[0]).parent.mkdir(parents=True)
    (tmp_path / annotations[0]).write_text("{}")
    if name not in ("cc3m", "cc12m", "sbu"):  # whose images may be next to the file
        with pytest.raises(InputError, match=f"^{tmp_path / images[0][0]}"):
            open_pretraining_set(name, tmp_path, TOKENIZER)


def test_coco_is_asked_with_all_names_and_objects365_with_some(tmp_path: Path) -> None:
    coco_2017(tmp_path)
    objects365(tmp_path)
    assert open_pretraining_set("coco", tmp_path, TOKENIZER).example(0).caption == "cat. dog. red kite"
    stream = open_pretraining_set("objects365", tmp_path, TOKENIZER)
    assert len({stream.example(position).caption for position in range(20)}) > 5


def test_pseudo_labelled_captions_are_packed_and_screened_and_those_of_people_are_not(tmp_path: Path) -> None:
    pseudo_labelled(tmp_path)
    flickr30k(tmp_path)
    packed = open_pretraining_set("cc3m", tmp_path, TOKENIZER)
    assert len({packed.example(position).caption for position in range(20)}) > 4
    people = open_pretraining_set("flickr30k", tmp_path, TOKENIZER)
    assert {people.example(position).caption for position in range(20)} == {"a cat and a dog", "a dog"}
    with pytest.raises(InputError, match=r"0\.8"):
        open_pretraining_set("cc3m", tmp_path, TOKENIZER, score_floor=0.8)


def test_any_folder_of_images_and_a_file_will_do(tmp_path: Path) -> None:
    for number in (0, 1):
        draw(tmp_path / f"images/{number}.png", number)
        draw(tmp_path / f"roboflow/{number}.png", number)
    write(boxes(tmp_path), tmp_path / "annotations.json")
    write(boxes(tmp_path), tmp_path / "roboflow/_annotations.coco.json")
    write(captions(tmp_path), tmp_path / "captions.json")
    assert isinstance(open_pretraining_set("coco-folder", tmp_path, TOKENIZER), DetectionStream)
    assert isinstance(open_pretraining_set("grounding-folder", tmp_path, TOKENIZER), GroundingStream)
    assert number_of(open_pretraining_set("coco-folder", tmp_path / "roboflow", TOKENIZER).example(0)) in (0, 1)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'flickr'.*'flickr30k'\?.*sbu"):
        open_pretraining_set("flickr", tmp_path, TOKENIZER)


def test_the_published_mixes_are_built_from_these_parts(tmp_path: Path) -> None:
    for make in (objects365, flickr30k, mixed_no_coco, pseudo_labelled):
        make(tmp_path)
    names = ("objects365", "flickr30k", "mixed-no-coco", "cc3m", "sbu")
    streams = [open_pretraining_set(name, tmp_path, TOKENIZER) for name in names]
    whole = Concatenation(streams)
    assert whole.epoch_length == 10
    assert sorted(number_of(whole.example(position)) for position in range(10)) == [0] * 5 + [1] * 5
    by_weight = Mixture(streams, (4, 1, 2, 2, 1))
    assert by_weight.example(0).boxes.shape[1] == 4

"""Scenes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from glip.data.coco import load_coco
from glip.data.grounding import load_grounding
from glip.data.synthetic import SceneJob, SceneMaker, folder, write_scenes
from glip.data.synthetic.object_sampler import Split
from glip.errors import InputError


def job(sprites: Path, count: int = 5, split: Split = "train", workers: int = 1, names: int | None = None) -> SceneJob:
    return SceneJob(count, 4, split, (100, 80), (140, 90), names=names, sprites=sprites, workers=workers)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_what_is_written_is_read_back_as_the_scenes_that_were_made(tmp_path: Path, sprite_folder: Path) -> None:
    summary = write_scenes(job(sprite_folder), tmp_path / "out")
    boxes, captions = load_coco(tmp_path / "out/annotations.json"), load_grounding(tmp_path / "out/captions.json")
    maker = job(sprite_folder).maker()
    names = {category.id: category.name for category in boxes.categories}
    for index, (image, caption) in enumerate(zip(boxes.images, captions.images, strict=True)):
        scene = maker.scene(index, maker.size_wh(index, (100, 80), (140, 90)))
        with Image.open(tmp_path / "out/images" / image.file_name) as photo:
            assert photo.size == (image.width, image.height) == scene.image.size == (caption.width, caption.height)
        found = [(names[box.category_id], box.bbox) for box in boxes.boxes_by_image()[image.id]]
        assert found == [(item.thing.label, item.box_xywh) for item in scene.objects]
        assert caption.caption == scene.caption.text
        grounded = [(box.tokens_positive, box.bbox) for box in captions.boxes_by_caption()[caption.id]]
        spoken = [(phrase.span, number) for phrase in scene.caption.phrases for number in phrase.objects]
        assert grounded == [((span,), scene.objects[number].box_xywh) for span, number in spoken]
    assert (summary.images, summary.boxes, summary.classes) == (5, len(boxes.annotations), len(boxes.categories))
    assert boxes.names == tuple(sorted(boxes.names))


def test_the_number_of_workers_changes_no_byte(tmp_path: Path, sprite_folder: Path) -> None:
    write_scenes(job(sprite_folder, count=20), tmp_path / "alone")
    done: list[None] = []
    write_scenes(job(sprite_folder, count=20, workers=2), tmp_path / "together", advance=lambda: done.append(None))
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")
    assert len(contents(tmp_path / "alone")) == 22
    assert len(done) == 20


def test_more_scenes_begin_with_the_same_ones(tmp_path: Path, sprite_folder: Path) -> None:
    write_scenes(job(sprite_folder, count=2), tmp_path / "few")
    write_scenes(job(sprite_folder, count=4), tmp_path / "many")
    few, many = (contents(tmp_path / name / "images") for name in ("few", "many"))
    assert few.items() < many.items()


def test_fewer_names_can_be_asked_for(tmp_path: Path, sprite_folder: Path) -> None:
    write_scenes(job(sprite_folder, count=20, names=1), tmp_path / "out")
    names = load_coco(tmp_path / "out/annotations.json").names
    assert "old shoe" in names
    assert "red door" not in names


def test_a_folder_that_holds_something_is_left_alone_unless_told(tmp_path: Path, sprite_folder: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="overwrite"):
        write_scenes(job(sprite_folder), tmp_path / "out")
    assert contents(tmp_path / "out") == {"mine.txt": b"mine"}
    write_scenes(job(sprite_folder), tmp_path / "out", overwrite=True)
    assert "mine.txt" not in contents(tmp_path / "out")
    with pytest.raises(InputError, match="file"):
        write_scenes(job(sprite_folder), tmp_path / "out/captions.json")


def test_what_is_not_finished_is_not_there(
    tmp_path: Path, sprite_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_three(maker: SceneMaker, *arguments: object) -> folder.WrittenScene:
        if arguments[-1] == 3:
            raise KeyboardInterrupt
        return folder.WrittenScene("a.jpg", (100, 100), (), maker.scene(0, (100, 100)).caption)

    monkeypatch.setattr(folder, "write_scene", fail_at_three)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(job(sprite_folder), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"names": 0}, "names is 0"),
        ({"minimum_wh": (40, 200)}, "40 × 200 to 480 × 480"),
        ({"minimum_wh": (200, 200), "maximum_wh": (300, 100)}, "200 × 200 to 300 × 100"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SceneJob(**{"count": 1, **settings})  # type: ignore[arg-type]


def test_what_is_wrong_with_the_images_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sprites"):
        write_scenes(job(tmp_path / "absent", workers=2), tmp_path / "out")
    assert not (tmp_path / "out").exists()

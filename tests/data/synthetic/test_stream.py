"""Scenes as examples: reproducible, of one size in a group, and with the right words at the right boxes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.synthetic.naming import fits
from glip.data.synthetic.sprite_pool import SpritePool
from glip.data.synthetic.sprites import Sprite
from glip.data.synthetic.stream import SceneStream, Sides
from glip.data.synthetic.vocabulary import scene_vocabulary
from glip.weights.tokenizer import SPECIAL_TOKENS, build_tokenizer

STREAM = SceneStream(names=0, sides=(Sides(64, 96),), sentences=0.3, group=4, shapes=1.0)


def test_every_span_names_what_its_box_shows() -> None:
    sentences = 0
    for position in range(60):
        example = STREAM.example(position)
        scene = STREAM.maker.scene(position, STREAM.size_wh(position))
        sentences += ". " not in example.caption
        for box, spans in zip(example.boxes, example.spans, strict=True):
            x, y, right, bottom = box.tolist()
            found = [o for o in scene.objects if np.allclose(o.box_xywh, (x, y, right - x, bottom - y), atol=1e-3)]
            assert found, (position, box)
            for start, end in spans:
                said = example.caption[start:end]
                assert any(
                    fits(name, found[0].thing) for name in (said, said.removesuffix("s"), said.replace("es", ""))
                )
    assert 8 <= sentences <= 32


def test_the_same_position_gives_the_same_example_in_any_process() -> None:
    other = pickle.loads(pickle.dumps(STREAM))
    for position in (7, 0, 3):
        one, two = STREAM.example(position), other.example(position)
        assert (one.caption, one.spans) == (two.caption, two.spans)
        assert one.image.tobytes() == two.image.tobytes()
    assert STREAM.example(1).image.tobytes() != STREAM.example(2).image.tobytes()


def test_a_group_has_one_size_of_whole_thirty_twos() -> None:
    sizes = [STREAM.size_wh(position) for position in range(40)]
    for start in range(0, 40, 4):
        assert len(set(sizes[start : start + 4])) == 1
    assert len(set(sizes)) > 1
    assert all(side % 32 == 0 for size in sizes for side in size)


def test_ready_made_images_are_shown(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (200, 30, 30, 255)).save(tmp_path / "red_door.png")
    stream = SceneStream(shapes=0.0, sides=(Sides(96, 96),), sentences=0.0, sprites=tmp_path)
    assert any("red door" in stream.example(position).caption for position in range(20))


def test_the_vocabulary_spells_every_scene_without_unknown_words() -> None:
    pool = SpritePool({"traffic light": Sprite(Image.new("RGBA", (8, 8)))})
    tokenizer = build_tokenizer(scene_vocabulary(pool, SPECIAL_TOKENS))
    assert tokenizer.encode("traffic lights left of two elephants").tokens[1:-1] == [
        *("traffic", "lights", "left", "of", "two", "elephants")
    ]
    assert tokenizer.encode("zebu").tokens[1:-1] == ["z", "##e", "##b", "##u"]
    for position in range(40):
        tokens = tokenizer.encode(STREAM.example(position).caption).tokens
        assert "[UNK]" not in tokens


@pytest.mark.parametrize("words", ["a", "7"])
def test_single_letters_are_in_the_vocabulary_once(words: str) -> None:
    vocabulary = scene_vocabulary(SpritePool({}), SPECIAL_TOKENS)
    assert vocabulary.count(words) == 1
    assert len(set(vocabulary)) == len(vocabulary)

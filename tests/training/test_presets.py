"""Presets: what was published stands there, and any field can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.data.synthetic.stream import Sides
from glip.errors import InputError
from glip.training.presets import PRESETS, PretrainPreset, changed, find_preset, parse_change, read_changes


def test_the_published_presets_hold_the_published_numbers() -> None:
    tiny, large = PRESETS["glip-t"], PRESETS["glip-l"]
    assert (tiny.batch_size, tiny.epochs, tiny.fit.schedule.milestones) == (64, 30, (0.67, 0.89))
    assert (tiny.fit.rates.base, tiny.fit.rates.text, tiny.fit.rates.weight_decay) == (1e-4, 1e-5, 1e-4)
    assert (tiny.fit.clip, tiny.fit.average, tiny.fit.schedule.warmup) == (1.0, 0.999, 2000)
    assert tiny.views.sizes_short == (480, 560, 640, 720, 800)
    assert [source.layout for source in tiny.data] == ["objects365", "flickr30k", "mixed-no-coco", "cc3m", "sbu"]
    assert (large.fit.mode, large.fit.rates.weight_decay, large.fit.schedule.steps) == ("full", 0.01, 1_000_000)
    assert {source.layout: source.copies for source in large.data}["flickr30k"] == 8


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("batch_size=8", lambda p: p.batch_size == 8),
        ("fit.rates.base=1e-3", lambda p: p.fit.rates.base == 1e-3),
        ("fit.schedule.milestones=[0.5]", lambda p: p.fit.schedule.milestones == (0.5,)),
        ("scenes.sides=[{minimum: 96, maximum: 128}]", lambda p: p.scenes.sides[0].maximum == 128),
        # Names of version 0.1.0.
        ("scenes.sides=[{least: 96, most: 128}]", lambda p: p.scenes.sides == (Sides(96, 128),)),
        ("fit.schedule.least=0.25", lambda p: p.fit.schedule.minimum == 0.25),
        ("fit={schedule: {least: 0.25}}", lambda p: p.fit.schedule.minimum == 0.25),
        (
            "fit={rates: {text: 0.5}, clip: 0}",
            lambda p: (p.fit.rates.text, p.fit.clip, p.fit.average) == (0.5, 0, PRESETS["nano"].fit.average),
        ),
    ],
)
def test_any_field_can_be_set_by_words(words: str, read: Any) -> None:
    assert read(changed(PRESETS["nano"], dict([parse_change(words)])))


def test_a_file_sets_fields_as_words_do(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("batch_size: 4\nfit:\n  schedule: {steps: 7}\n", encoding="utf-8")
    preset = changed(PRESETS["nano"], read_changes(file))
    assert (preset.batch_size, preset.fit.schedule.steps, preset.fit.schedule.decay) == (4, 7, "cosine")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("batch=8", "'batch'.*architecture, start, batch_size"),
        ("fit.rates.bse=1", "'fit.rates.bse'.*base, text, weight_decay"),
        ("batch_size.x=1", "'batch_size.x'.*16"),
        ("batch_size=many", r"`int`.*\$\.batch_size"),
        ("batch_size", "'batch_size'"),
        ("fit.clip=[", r"'fit.clip=\['"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(words: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        changed(PRESETS["nano"], dict([parse_change(words)]))


def test_an_unknown_preset_and_a_file_without_fields_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'nan'.*nano, glip-t-a"):
        find_preset("nan")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.yaml"):
        read_changes(tmp_path / "list.yaml")
    with pytest.raises(InputError, match=r"none\.yaml"):
        read_changes(tmp_path / "none.yaml")


def test_changing_nothing_changes_nothing() -> None:
    for preset in PRESETS.values():
        assert isinstance(preset, PretrainPreset)
        assert changed(preset, {}) == preset

"""YAML: plain values, or one sentence with the line."""

from __future__ import annotations

from typing import Any

import pytest

from glip.errors import InputError
from glip.yaml_files import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: [x, 2.5, true, ~]", {"a": 1, "b": ["x", 2.5, True, None]}),
        ("a: 2001-12-31", {"a": "2001-12-31"}),
        ("a: 2001-99-99", {"a": "2001-99-99"}),
        ("a: !!str 7", {"a": "7"}),
        ("<<: x", {"<<": "x"}),
        ("a: 0x10", {"a": 16}),
    ],
)
def test_values_are_plain(text: str, value: Any) -> None:
    assert load_yaml(text, "file") == value


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool x",
        "a: !!int x",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!python/object:os.system x",
        "a: !!set {x}",
        "a: !own x",
        "a: " + "9" * 5000,
        "a: 1\na: 2",
        "[a]: 1",
        "a: &x 1\nb: *x",
        "a: [" * 2000,
        '"\\U00110000": x',
        "a: b: c",
        "a: \x00",
        "--- a\n--- b",
        "%YAML 9.9\n--- a",
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^file") as caught:
        load_yaml(text, "file")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400

"""The class file: what it means, and what it says to those who made a mistake in it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from glip.errors import InputError
from glip.labeling.classes import ClassFile, load_class_file

FULL = """\
# what we look for
person:
  prompts: [person, a pedestrian]
  conf: 0.4
  id: 7
  negative: [mannequin, dog]
dog: small dog
cat:
"hard hat":
  prompts:
    - hard hat
    - safety helmet
  negative: mannequin
"""


def load(tmp_path: Path, text: str) -> ClassFile:
    path = tmp_path / "classes.yaml"
    path.write_bytes(text.encode())
    return load_class_file(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_every_field_is_understood(tmp_path: Path) -> None:
    assert load(tmp_path, FULL) == ClassFile(
        names=("person", "dog", "cat", "hard hat"),
        phrases=("person", "a pedestrian", "small dog", "cat", "hard hat", "safety helmet", "mannequin", "dog"),
        class_of=(0, 0, 1, 2, 3, 3, None, None),
        negative_of=((), (), (), (), (), (), (0, 3), (0,)),
        conf=(0.4, None, None, None),
        ids=(7, 1, 2, 3),
    )


def test_a_prompt_of_one_class_may_be_a_negative_of_another(tmp_path: Path) -> None:
    classes = load(tmp_path, "dog: {negative: [Cat]}\ncat:\n")
    assert classes.phrases == ("dog", "cat")
    assert classes.class_of == (0, 1)
    assert classes.negative_of == ((), (0,))


@pytest.mark.parametrize("text", ["- person\n- dog\n", "person:\ndog:\n", "- person\n- dog: dog\n", "[person, dog]"])
def test_short_forms_mean_the_same(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == ClassFile.from_phrases(["person", "dog"])


def test_classes_without_an_id_get_the_smallest_free_ones(tmp_path: Path) -> None:
    assert load(tmp_path, "a:\nb: {id: 1}\nc:\nd: {id: 3}\ne:\n").ids == (2, 1, 4, 3, 5)


def test_names_come_back_as_written(tmp_path: Path) -> None:
    names = ("Zebra Crossing", "no", "7", "café ☕", "l'eau", "a: b", "人")
    text = yaml.safe_dump(list(names), allow_unicode=True)
    assert load(tmp_path, text).names == names


def test_plain_data_survives_json(tmp_path: Path) -> None:
    classes = load(tmp_path, FULL)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(classes)), ClassFile) == classes


def test_a_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff- person\n").names == ("person",)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("person:\n  promts: [x]\n", 2, "`prompts`"),
        ("person:\n  zzz: 1\n", 2, "prompts, conf, id, negative"),
        ("person:\n  conf: 0.1\n  conf: 0.2\n", 3, "`conf`"),
        ("person:\n  conf: 1.5\n", 2, "`1.5`"),
        ("person:\n  conf: .nan\n", 2, "`.nan`"),
        ("person:\n  conf: high\n", 2, "`high`"),
        ("person:\n  conf: [0.1]\n", 2, "a list"),
        ("person:\n  id: 0\n", 2, "`0`"),
        ("person:\n  id: 1.0\n", 2, "`1.0`"),
        ("person:\n  id: 99999999999\n", 2, "`99999999999`"),
        ("a: {id: 3}\nb: {id: 3}\n", 2, "id 3"),
        ("person:\ndog:\nperson:\n", 3, "line 1"),
        ("a: {prompts: [x, y]}\nb: {prompts: [Y]}\n", 2, "'Y'"),
        ("a: {prompts: [x, X  ]}\n", 1, "'X'"),
        ("a:\n  negative: [A]\n", 2, "'A'"),
        ("a:\n  negative: [x, x]\n", 2, "'x'"),
        ("a:\n  prompts: []\n", 2, "prompts of 'a'"),
        ("a:\n  prompts: {x: 1}\n", 2, "`name: value` lines"),
        ("a:\n  prompts: [[x]]\n", 2, "a list"),
        ("- a\n- no\n", 2, "`no`"),
        ("- a\n- 7\n", 2, "`7`"),
        ("2024-01-01: x\n", 1, "`2024-01-01`"),
        ("- a\n- ' '\n", 2, "a class name"),
        ("- a\n-\n", 2, "a class name"),
        ('- a\n- "b\\nc"\n', 2, "b\\nc"),
        ("- a: x\n  b: y\n", 1, "list"),
        ("- [a]\n", 1, "a list"),
        ("person\n", 1, "`person`"),
        ("a:\n  prompts: [x\nb:\n", 3, "YAML"),
        ("a: &x [y]\nb: *x\n", 1, "&"),
        ("a: \x01\n", 0, "YAML"),
    ],
)
def test_a_mistake_is_shown_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    error = refused(tmp_path, text)
    assert message in error
    assert error.startswith(f"{tmp_path / 'classes.yaml'}{f', line {line}' if line else ''}: ")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]", "{}", "---\n"])
def test_an_empty_file_is_told_so(tmp_path: Path, text: str) -> None:
    assert "is empty" in refused(tmp_path, text)


def test_a_tag_is_no_instruction(tmp_path: Path) -> None:
    text = f"a: !!python/object/apply:pathlib.Path.mkdir [{tmp_path}/made]\n"
    assert load(tmp_path, text).phrases == (f"{tmp_path}/made",)
    assert not (tmp_path / "made").exists()


def test_a_bomb_of_aliases_is_refused_before_it_grows(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "anchors" in refused(tmp_path, "\n".join(["l0: &l0 [a, b]", *levels]))


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refused(tmp_path, "[" * 5000)


def test_a_file_that_is_no_class_file_is_refused(tmp_path: Path) -> None:
    assert "larger than" in refused(tmp_path, "#" * 5_000_000)
    (tmp_path / "image.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="UTF-8"):
        load_class_file(tmp_path / "image.yaml")
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_class_file(tmp_path / "nowhere.yaml")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_leads_to_anything_but_classes_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "classes.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        classes = load_class_file(path)
    except InputError:
        return
    assert classes.names
    assert len(classes.phrases) == len(classes.class_of) == len(classes.negative_of)
    assert len(set(classes.ids)) == len(classes.names) == len(classes.conf)


def test_a_phrase_that_stands_twice_in_a_prompt_is_one_class() -> None:
    classes = ClassFile.from_phrases(["car", "dog", "car"])
    assert classes.names == ("car", "dog")
    assert classes.class_of == (0, 1, 0)


def test_classes_find_their_phrases_in_the_order_of_an_earlier_run(tmp_path: Path) -> None:
    classes = load(tmp_path, "vehicle: [car, Truck]\ndog: {negative: toy dog}\n")
    there = classes.for_phrases(["toy dog", "bus", "truck", "car", "dog"])
    assert there.class_of == (None, None, 0, 0, 1)
    assert there.negative_of == ((1,), (), (), (), ())
    assert there.names == classes.names


def test_phrases_that_were_not_looked_for_cannot_be_exported(tmp_path: Path) -> None:
    classes = load(tmp_path, "vehicle: [car, tram, bus]\n")
    with pytest.raises(InputError, match=r"'tram'.*2"):
        classes.for_phrases(["car", "dog"])

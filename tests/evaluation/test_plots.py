"""Charts and photographs of an evaluation: their content, and that nothing is cut off."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from glip.evaluation.plots import (
    ANNOTATED_COLOR,
    PREDICTED_COLOR,
    curves_figure,
    matrix_figure,
    photo_figure,
    write_figure,
)

LEVELS = np.linspace(0, 1, 11)


def curves(title: str, *names: str) -> Figure:
    lines = {name: (LEVELS, np.full(11, 0.5)) for name in names}
    return curves_figure(title, lines, x_label="recall", y_label="precision", x_range=(0, 1))


def assert_text_is_inside(figure: Figure) -> None:
    """Fails if a title, a legend or a label reaches beyond the figure."""
    figure.savefig(BytesIO(), format="png")
    width, height = figure.bbox.size
    inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert inside.x0 >= -1 and inside.y0 >= -1 and inside.x1 <= width + 1 and inside.y1 <= height + 1


def test_curves_have_labels_and_a_legend() -> None:
    figure = curves("a set", "first", "second")
    (axes,) = figure.axes
    assert (figure.get_suptitle(), axes.get_xlabel(), axes.get_ylabel()) == ("a set", "recall", "precision")
    assert [line.get_label() for line in axes.lines] == ["first", "second"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.5] * 11
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]


@pytest.mark.parametrize("names", [(), ("one",), tuple(f"any-box, instruments {i}: R@1 100.0" for i in range(11))])
def test_titles_and_legends_of_curves_are_not_cut_off(names: tuple[str, ...]) -> None:
    assert_text_is_inside(curves("a_name_without_spaces" * 6, *names))


def test_a_matrix_shows_shares_of_the_row_and_counts() -> None:
    axes = matrix_figure("a set", ["cat", "dog"], np.array([[9, 1], [0, 0]])).axes[0]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.9, 0.1], [0, 0]]
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [((0, 0), "9"), ((1, 0), "1")]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("annotated class", "predicted class")


@pytest.mark.parametrize("classes", [1, 2, 12, 41])
def test_titles_and_names_of_a_matrix_are_not_cut_off(classes: int) -> None:
    names = [f"a description with more words than fit, number {i}" for i in range(classes)]
    assert_text_is_inside(matrix_figure("boxes with a score from 0.45 " * 6, names, np.eye(classes, dtype=np.int64)))


def places(path: Path, color: str) -> tuple[int, int, int, int]:
    """Returns the first and last row and column of a color."""
    rgb = tuple(bytes.fromhex(color[1:]))
    rows, columns = np.nonzero((np.asarray(Image.open(path).convert("RGB")) == rgb).all(axis=2))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (400, 300), (90, 90, 90)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


NONE = np.zeros((0, 4))


def test_annotated_boxes_are_drawn_below_the_title(photo: Path) -> None:
    figure = photo_figure(photo, "x", np.array([[10.0, 20, 50, 30]]), NONE, NONE)
    assert figure is not None
    write_figure(photo.with_name("out.png"), figure)
    assert Image.open(photo.with_name("out.png")).size == (400, 300 + 28)
    assert places(photo.with_name("out.png"), ANNOTATED_COLOR) == (48, 78, 10, 60)


def test_predicted_boxes_are_drawn_with_a_tag(photo: Path) -> None:
    figure = photo_figure(photo, "x", NONE, NONE, np.array([[100.0, 140, 160, 120]]))
    assert figure is not None
    write_figure(photo.with_name("out.png"), figure)
    top, bottom, left, right = places(photo.with_name("out.png"), PREDICTED_COLOR)
    assert 140 <= top < 168  # the tag above the box
    assert abs(bottom - 288) <= 2 and abs(left - 100) <= 2 and abs(right - 260) <= 2


def test_a_long_title_is_wrapped(photo: Path) -> None:
    figure = photo_figure(photo, "a long caption " * 20, NONE, NONE, NONE)
    assert figure is not None
    assert_text_is_inside(figure)
    assert figure.bbox.height > 300 + 3 * 18


def test_a_small_photograph_leaves_room_for_the_title(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "small.png")
    figure = photo_figure(tmp_path / "small.png", "wrong class: predicted dog", NONE, NONE, NONE)
    assert figure is not None
    assert_text_is_inside(figure)


def test_a_missing_photograph_gives_no_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert photo_figure(tmp_path / "gone.png", "x", NONE, NONE, NONE) is None
    assert "gone.png" in caplog.text


def test_dollar_signs_and_control_characters_in_names_are_drawn_as_text(tmp_path: Path) -> None:
    evil = "$\\frac{x$ \x1b[0m ^_{ \u202e"
    curve = (np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    curves = curves_figure(evil, {evil: curve}, x_label="x", y_label="y", x_range=(0, 1))
    matrix = matrix_figure(evil, [evil, "nothing"], np.array([[1, 0], [0, 1]]))
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    box = np.array([[1.0, 2.0, 10.0, 10.0]])
    photo = photo_figure(tmp_path / "a.png", evil, box, box, box)
    assert photo is not None
    for index, figure in enumerate((curves, matrix, photo)):
        write_figure(tmp_path / f"{index}.png", figure)
        assert Image.open(tmp_path / f"{index}.png").width > 0

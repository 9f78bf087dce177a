"""Text from outside never runs as a formula in a spreadsheet, and stays what it was otherwise."""

from __future__ import annotations

import pytest

from glip.csv_cells import csv_path, csv_text

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=HYPERLINK("http://x")']


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_gets_an_apostrophe_and_a_path_the_same_folder(text: str) -> None:
    assert csv_text(text) == "'" + text
    assert csv_path(text) == "./" + text


@pytest.mark.parametrize("text", ["", "person", "a=b", "hard-hat", " red", "'quoted", "сорока"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert csv_text(text) == csv_path(text) == text

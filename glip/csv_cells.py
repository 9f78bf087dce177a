"""Makes text safe for CSV files that people open in a spreadsheet. Knows no other module."""

from __future__ import annotations

# A cell that begins with one of these is run as a formula, or may be after an import that trims it; the last four are
# the full-width forms, which some spreadsheets take for the plain ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(value: str) -> str:
    """Returns text from outside as a cell: one that could run as a formula gets an apostrophe in front.

    Spreadsheets show the rest as text. Use it for names, never for numbers, which may begin with a minus sign.
    """
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value


def csv_path(value: str) -> str:
    """Returns a relative path as a cell: one that could run as a formula gets `./` in front, which is the same path."""
    return f"./{value}" if value.lstrip(" ").startswith(_FORMULA) else value

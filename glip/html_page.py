"""Makes pages of one file: text, tables and images that open from the disk, on a phone too, without script or network.

Every text is escaped here; `page` joins parts that these functions made.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { --ground: #f6f6f4; --card: #fff; --ink: #1c1c1a; --soft: #64645f; --line: #dddcd6; --mark: #1f6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #161615; --card: #222220; --ink: #ecece8; --soft: #a3a39c; --line: #3a3a36; --mark: #6ea4f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 24px; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 34px 0 10px; overflow-wrap: anywhere; }
p { color: var(--soft); margin: 0 0 12px; max-width: 75ch; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 0 0 14px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card);
  margin: 0 0 14px; max-height: 560px; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--soft); font-weight: normal; position: sticky; top: 0; background: var(--card); }
th, td { padding: 5px 14px; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px;
  align-items: start; margin: 0 0 14px; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; }
details { margin: 0 0 12px; }
summary { cursor: pointer; color: var(--mark); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  body { padding: 14px; }
  dl { grid-template-columns: 1fr; }
  th, td { padding: 5px 9px; }
}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Returns a page of parts that the functions of this module made."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """Returns a heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f"<p>{escape(text)}</p>"


def tiles(numbers: Sequence[tuple[str, str]]) -> str:
    """Returns numbers in large letters, from (name, value)."""
    cells = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in numbers)
    return f'<div class="tiles">{"".join(cells)}</div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a list of (term, text)."""
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(text)}</dd>' for term, text in rows)}</dl>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = "—") -> str:
    """Returns a table without the columns in which every cell is `empty`. Columns of numbers stand at the right."""
    shown = [place for place in range(len(columns)) if any(row[place] not in ("", empty) for row in rows)]
    numbers = {place for place in shown if all(_is_number(row[place], empty) for row in rows)}
    style = {place: ' class="number"' if place in numbers else "" for place in shown}
    head = "".join(f"<th{style[place]}>{escape(columns[place])}</th>" for place in shown)
    body = "".join(
        f"<tr>{''.join(f'<td{style[place]}>{escape(row[place])}</td>' for place in shown)}</tr>\n" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figures(images: Sequence[tuple[bytes, str]]) -> str:
    """Returns images beside each other, from (content of a PNG or JPEG file, text for those who do not see it)."""
    return f'<div class="figures">{"".join(_figure(content, text) for content, text in images)}</div>'


def folded(title: str, parts: Sequence[str]) -> str:
    """Returns parts that are hidden until their title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def _figure(content: bytes, text: str) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure><img src="{source}" alt="{escape(text)}"></figure>'


def _is_number(text: str, empty: str) -> bool:
    return text in ("", empty) or text.replace(",", "").lstrip("+-").replace(".", "", 1).isdecimal()

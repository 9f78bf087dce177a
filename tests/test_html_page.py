"""Pages: nothing from outside becomes markup, and columns without values are left out."""

from __future__ import annotations

from html.parser import HTMLParser

from glip.html_page import facts, figures, folded, heading, page, paragraph, table, tiles

EVIL = "<script>alert(1)</script>\"'><img src=http://evil onerror=alert(1)>&"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_nothing_from_outside_becomes_markup() -> None:
    parts = [
        heading(EVIL),
        paragraph(EVIL),
        tiles([(EVIL, EVIL)]),
        facts([(EVIL, EVIL)]),
        table([EVIL], [[EVIL]]),
        figures([(b"\x89PNG", EVIL)]),
        folded(EVIL, []),
    ]
    made = Tags(page(EVIL, parts))
    names = [tag for tag, _ in made.tags]
    assert "script" not in names and names.count("img") == 1
    image = next(attributes for tag, attributes in made.tags if tag == "img")
    assert image["alt"] == EVIL and str(image["src"]).startswith("data:image/png;base64,")
    assert not any(key.startswith("on") for _, attributes in made.tags for key in attributes)
    assert made.text.count(EVIL) == 11


def test_the_page_may_load_nothing() -> None:
    made = Tags(page("a", []))
    policy = next(str(a["content"]) for _, a in made.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not any({"src", "href"} & attributes.keys() for _, attributes in made.tags)


def test_columns_without_values_are_left_out_and_numbers_stand_right() -> None:
    made = Tags(table(["class", "AP", "published"], [["dog", "-3.5", "—"], ["cat", "—", "—"]]))
    assert "published" not in made.text
    headings = [attributes for tag, attributes in made.tags if tag == "th"]
    assert headings == [{}, {"class": "number"}]

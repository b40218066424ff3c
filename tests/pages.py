"""Reading the pages of reports, for the tests that look at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "images"
PICTURES = sorted(str(path) for path in GOLDEN.iterdir())
HOSTILE = "<script>alert('x')</script>\"&.jpg"
VOID = {"meta", "img", "line", "path", "polyline", "circle", "rect"}


@dataclass(frozen=True)
class Element:
    tag: str
    attributes: dict[str, str]
    inside: list[str]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


class Page(HTMLParser):
    """All elements of a page in order; refuses tags that are not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        element = Element(tag, attributes, [outer.tag for outer in self.open])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.texts.append(data)

    def all(self, tag: str, kind: str = "") -> list[Element]:
        """Give the elements of a tag, those of one class where `kind` is given."""
        return [
            element
            for element in self.elements
            if element.tag == tag
            and (not kind or kind in element.attributes.get("class", "").split())
        ]


def words(source: str) -> str:
    """Give all that a page says outside its style sheet."""
    page = Page(source)
    return next(element.text for element in page.all("body"))

"""An HTML page as the tests look at it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.origins: list[dict[str, str]] = []  # of each number: as the page's script finds it
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if tag == "table":
            self._table, self._heads = given.get("data-name"), []
        elif tag == "th":
            self._heads.append("")
        elif tag == "tr":
            self._row, self._column = given, -1
        elif tag == "td":
            self._column += 1
        elif given.get("class") == "origin":
            name, column = self._row["data-name"], self._heads[self._column].strip()
            cells = self._row["data-cells"]
            self.origins.append(
                {"table": self._table, "row": name, "column": column, "cells": cells}
            )
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "th" in self.open:
            self._heads[-1] += data
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

"""Every link of the built site leads somewhere, and nothing is asked of another host."""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs_site.conftest import PAGES

pytestmark = pytest.mark.browser

FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "object": ("data",),
}
"""What a browser fetches by itself."""


class Reader(HTMLParser):
    """Notes what a page links, what it fetches, what can be linked in it, and its formulas."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.formulas: list[dict[str, str | None]] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        had = dict(attrs)
        if had.get("id"):
            self.ids.append(str(had["id"]))
        if tag == "a" and had.get("href") is not None:
            self.links.append(str(had["href"]))
        if tag == "math":
            self.formulas.append(had)
        if had.get("style"):
            self.styles.append(str(had["style"]))
        self.fetched += [str(had[name]) for name in FETCHED.get(tag, ()) if had.get(name)]


@cache
def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def foreign(addresses: list[str]) -> list[str]:
    return [each for each in addresses if urlsplit(each).netloc]


def broken(page: Path) -> Iterator[str]:
    for link in read(page).links + read(page).fetched:
        parts = urlsplit(link)
        if parts.scheme in ("https", "mailto", "data") or parts.hostname == "127.0.0.1":
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        if not target.is_file() or (
            parts.fragment
            and target.suffix == ".html"
            and unquote(parts.fragment) not in read(target.resolve()).ids
        ):
            yield link


@pytest.mark.parametrize("name", PAGES)
def test_links_and_anchors_lead_somewhere(site: Path, name: str) -> None:
    assert list(broken((site / f"{name}.html").resolve())) == []


@pytest.mark.parametrize("name", PAGES)
def test_ids_are_there_once(site: Path, name: str) -> None:
    ids = read((site / f"{name}.html").resolve()).ids
    assert sorted({each for each in ids if ids.count(each) > 1}) == []


@pytest.mark.parametrize("name", PAGES)
def test_pages_ask_no_other_host(site: Path, name: str) -> None:
    page = read((site / f"{name}.html").resolve())
    assert foreign(page.fetched) == []
    assert [style for style in page.styles if "url(" in style] == []


def test_style_sheets_and_scripts_ask_no_other_host(site: Path) -> None:
    for path in (site / "_static").rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        asked = re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
        asked += re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert foreign([each for each in asked if not each.startswith("data:")]) == [], path
    for path in (site / "_static").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"(?:fetch|import)\(\s*['\"]https?:", text) == [], path


def test_formulas_are_mathml_with_their_tex(site: Path) -> None:
    formulas = read((site / "theory" / "stackelberg.html").resolve()).formulas
    assert len(formulas) > 10
    assert all(each["alttext"] for each in formulas)


def test_links_into_the_repository_lead_to_pages(site: Path) -> None:
    links = read((site / "how-to" / "write-a-plugin.html").resolve()).links
    assert any(link.startswith("../reference/plugin-example.html") for link in links)
    assert any(link.startswith("../reference/api/framework.html") for link in links)

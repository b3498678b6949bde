"""Whether every link inside the built site leads somewhere, and nothing is loaded from elsewhere.

    python docs/check_site.py build/docs

Sphinx warns of dead links in the sources; this reads what it wrote. Prints what is wrong, and ends with status 1 then.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src"}
"""Elements that make a browser load something, and the attribute that says what; of `link` see `_Page`."""
NOT_LOADED = {"search", "next", "prev", "index", "canonical", "author", "license", "genindex", "top", "up"}
"""Kinds of `link` that are only links."""
IN_CSS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


class _Page(HTMLParser):
    """What a page loads, links to, and can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            kinds = set(given.get("rel", "").lower().split())
            (self.links if kinds & NOT_LOADED else self.loaded).append(given["href"])
        elif LOADED.get(tag, "") in given:
            self.loaded.append(given[LOADED[tag]])
        self.loaded += [address for pair in IN_CSS.findall(given.get("style", "")) for address in pair if address]


def mistakes(site: Path) -> Iterator[str]:
    """What is wrong with a folder of HTML, a line for each."""
    site = site.resolve()
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no page"
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.loaded:
            if _is_elsewhere(address):
                yield f"{name}: loads {address}"
        for address in (*page.loaded, *page.links):
            if not _is_elsewhere(address) and not address.startswith(("data:", "mailto:")):
                yield from (f"{name}: {wrong}" for wrong in _dead(address, path, pages))
    for path in sorted(site.rglob("*.css")):
        for address in (one for pair in IN_CSS.findall(path.read_text(encoding="utf-8")) for one in pair if one):
            if _is_elsewhere(address):
                yield f"{path.relative_to(site)}: loads {address}"


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def _dead(address: str, path: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        yield f"no such file: {address}"
    elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
        yield f"no such place: {address}"


if __name__ == "__main__":
    found = list(mistakes(Path(sys.argv[1])))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))

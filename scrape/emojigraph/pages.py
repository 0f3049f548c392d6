"""Reads the site's pages: which emoji a vendor's list shows, and what an emoji's own page says of it.

All that is known of the site's HTML is in the tables here: several selectors, tried in turn, because sites change.
Whatever a page holds is data: an address is kept only if it is one of the site's, a name only if it consists of code
points, and nothing else of it ever becomes a path.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode
from yarl import URL

from ..emojibase import key

# A vendor's list: what finds the pictures of its emoji. `{vendor}` is the vendor's name.
LISTED = (
    "#category__first .row.cva a.pim img",
    "#category__first a img",
    'a img[src*="/{vendor}/"], a img[data-src*="/{vendor}/"]',
)

# Where an image's address may be, in order: pictures that load late keep it in data-src.
SOURCES = ("data-src", "src")

# An emoji's page: its name, and what is said of it; "a ~ p" is the first p after an a in the same element that says
# something. (The parser's own "~" takes a time that grows with the square of the page.)
NAMES = (".emoji__title .emoji", ".emoji__title", "h1")
DESCRIPTIONS = (
    ".emoji__copy ~ p",
    ".emoji__title ~ p",
    ".emoji__description p",
    '[itemprop="description"]',
    "h1 ~ p",
)

# Tags that a parser repeats in every paragraph after them until they are closed, so that a few kilobytes of them become
# gigabytes. They matter to nothing here, and are read as <wbr>, which has no content and joins no words.
FORMATTING = re.compile(
    r"<(/?)(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.ASCII | re.IGNORECASE
)

# How far from where it ought to be something is looked for, in elements.
NEAR = 20

# A picture's address: a folder per size of thumbnail, or none for the full picture; the emoji's slug; its code points.
PICTURE = re.compile(
    r"(?P<media>.*/media)/(?:[0-9]+/)?(?P<vendor>[^/]+)/(?P<file>(?P<slug>[^/]+)_(?P<points>[0-9a-f-]+)\.png)"
)

POINTS = re.compile(r"[0-9a-f]{1,6}(-[0-9a-f]{1,6}){0,15}")

# No emoji holds one of these: controls, surrogates, private characters, spaces; and none begins with what joins or
# varies others.
NO_EMOJI = frozenset(("Cc", "Cs", "Co", "Zs", "Zl", "Zp"))
NO_BEGINNING = frozenset(("Cf", "Mc", "Me", "Mn"))

# Categories of characters that no name or description keeps.
UNSAID = frozenset(("Cc", "Cf", "Cs", "Co"))

LONGEST_URL = 2000
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 5000
MOST_ITEMS = 20_000


@dataclass(frozen=True)
class Item:
    """An emoji of the list: its code points (`1F44B-1F3FB`), its slug in words, where its picture and its page are."""

    hexcode: str
    name: str
    image_url: str
    page_url: str | None

    @property
    def key(self) -> str:
        """What emojibase knows it by; of one list, no two items have the same."""
        return key(self.hexcode)


@dataclass(frozen=True)
class Listing:
    """A vendor's list: its emoji in the page's order, what is wrong with other entries, the selector that found them.

    `faults` are pairs of what the page says and why it is no emoji; `selector` is None where none matched.
    """

    items: tuple[Item, ...]
    faults: tuple[tuple[str, str], ...]
    selector: str | None


@dataclass(frozen=True)
class About:
    """What an emoji's page says: its name and description, empty where no selector matched."""

    name: str
    description: str


class Odd(Exception):
    """Why an entry of the list is not taken."""


def read_list(html: str, page: URL, vendor: str) -> Listing:
    """The pictures of `vendor` that the list at `page` shows, in full size."""
    tree, best = _parse(html), Listing((), (), None)
    for template in LISTED:
        selector = template.format(vendor=vendor)
        images = tree.css(selector)
        if images and not best.items:
            items, faults = _choose(images, page, vendor)
            if items or best.selector is None:
                best = Listing(items, faults, selector)
    return best


def read_page(html: str) -> About:
    """What the page of an emoji says of it."""
    tree = _parse(html)
    return About(_first(tree, NAMES, LONGEST_NAME), _first(tree, DESCRIPTIONS, LONGEST_DESCRIPTION))


def plain(text: str, longest: int) -> str:
    """One line of at most `longest` characters, without controls, marks of direction and halves of characters.

    What joins and varies emoji (U+200D, U+FE0F) stays.
    """
    # Cut before each character is looked at: a page may hold a million.
    start = text.strip()[: 4 * longest]
    kept = "".join(char for char in start if char in "\u200d\t\n\r\f " or unicodedata.category(char) not in UNSAID)
    return " ".join(kept.split())[:longest].strip()


def _choose(images: list[LexborNode], page: URL, vendor: str) -> tuple[tuple[Item, ...], tuple[tuple[str, str], ...]]:
    """One item for each emoji; a fault for what is none, or is there again with another picture."""
    items: dict[str, Item] = {}
    faults: dict[tuple[str, str], None] = {}
    for image in images:
        source = next((value for name in SOURCES if (value := image.attributes.get(name))), "")
        try:
            item = _item(source, _link(image), page, vendor)
            other = items.setdefault(item.key, item)
            if other.image_url != item.image_url:
                raise Odd("a second picture of one emoji")
            if len(items) > MOST_ITEMS:
                raise Odd(f"the list holds more than {MOST_ITEMS:,} pictures")
        except Odd as odd:
            faults[plain(source, LONGEST_NAME), str(odd)] = None
    return tuple(items.values())[:MOST_ITEMS], tuple(faults)


def _item(source: str, link: str, page: URL, vendor: str) -> Item:
    url = _address(source, page)
    match = PICTURE.fullmatch(url.raw_path)
    if match is None:
        raise Odd("no picture of an emoji, by its name")
    if match["vendor"] != vendor:
        raise Odd("not a picture of the vendor's")
    words = plain(URL.build(path=match["slug"], encoded=True).path.replace("-", " "), LONGEST_NAME)
    image_url = f"{page.origin()}{match['media']}/{vendor}/{match['file']}"
    return Item(_hexcode(match["points"]), words, image_url, _page_url(link, page))


def _address(reference: str, page: URL) -> URL:
    """The address that `reference` is on `page`; raises Odd unless it is on the same site."""
    if len(reference) > LONGEST_URL:
        raise Odd(f"an address of more than {LONGEST_URL:,} characters")
    try:
        url = page.join(URL(reference.strip()))
        on_site = url.origin() == page.origin()
    except ValueError:
        raise Odd("no address") from None
    if not on_site:
        raise Odd("on another site")
    return url


def _page_url(link: str, page: URL) -> str | None:
    """The emoji's page, `/<slug>/` also where the list links to `/<vendor>/<slug>/`; None where there is no link."""
    try:
        parts = [part for part in _address(link, page).raw_path.split("/") if part]
    except Odd:
        return None
    return f"{page.origin()}/{parts[-1]}/" if parts else None


def _hexcode(points: str) -> str:
    """As emojibase writes it: capitals, four digits at least. Raises Odd for what cannot be an emoji."""
    if not POINTS.fullmatch(points):
        raise Odd("its name holds no code points")
    numbers = [int(point, 16) for point in points.split("-")]
    kinds = [unicodedata.category(chr(number)) if number <= 0x10FFFF else "Cs" for number in numbers]
    if kinds[0] in NO_BEGINNING or not NO_EMOJI.isdisjoint(kinds):
        raise Odd("its name holds no code points")
    return "-".join(f"{number:04X}" for number in numbers)


def _link(image: LexborNode) -> str:
    """The target of the link around an image."""
    return next(
        (target for node in _ancestors(image) if node.tag == "a" and (target := node.attributes.get("href"))), ""
    )


def _ancestors(node: LexborNode) -> Iterator[LexborNode]:
    for _ in range(NEAR):
        if node.parent is None:
            return
        node = node.parent
        yield node


def _siblings(node: LexborNode) -> Iterator[LexborNode]:
    for _ in range(NEAR):
        if node.next is None:
            return
        node = node.next
        yield node


def _parse(html: str) -> LexborHTMLParser:
    return LexborHTMLParser(FORMATTING.sub(r"<\1wbr", html))


def _first(tree: LexborHTMLParser, selectors: tuple[str, ...], longest: int) -> str:
    """The first text that one of `selectors` finds."""
    for selector in selectors:
        place, _, sibling = selector.partition(" ~ ")
        for node in tree.css(place)[:NEAR]:
            for found in [node] if not sibling else [other for other in _siblings(node) if other.tag == sibling]:
                if text := plain(found.text(), longest):
                    return text
    return ""

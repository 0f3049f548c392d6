"""Reads the site's pages: a vendor's list of emoji, and the page of an emoji with its description.

Everything that depends on the site's HTML is in the tables here: several selectors, tried in turn, because sites
change. No page is trusted: an address is kept only if it is on the site, and a file's name is made of code points only.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode
from yarl import URL

from ..emojibase import key
from .robots import AGENT, forbidding_directive, reserves

# The selectors of the pictures in a vendor's list; `{vendor}` is the vendor's name.
LISTED = (
    "#category__first .row.cva a.pim img",
    "#category__first a img",
    'a img[src*="/{vendor}/"], a img[data-src*="/{vendor}/"]',
)

# The attributes that may hold a picture's address, in order: pictures that load late keep it in data-src.
SOURCES = ("data-src", "src")

# The selectors of the name and the description in an emoji's page; "a ~ p" is the first p with text after an a in the
# same element. (The parser's "~" takes a time that grows with the square of the page's length.)
NAMES = (".emoji__title .emoji", ".emoji__title", "h1")
DESCRIPTIONS = (
    ".emoji__copy ~ p",
    ".emoji__title ~ p",
    ".emoji__description p",
    '[itemprop="description"]',
    "h1 ~ p",
)

# A parser repeats these tags in each paragraph until they are closed, so that a few kilobytes can become gigabytes.
# They are replaced by <wbr>, which has no content and joins no words.
FORMATTING = re.compile(
    r"<(/?)(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.ASCII | re.IGNORECASE
)

# The number of ancestors, siblings or matches that a search looks at.
MAX_NEAR = 20

# A picture's path: a folder for the size of a thumbnail, none for the full picture; the vendor; the emoji's slug and
# code points.
PICTURE = re.compile(
    r"(?P<media>.*/media)/(?:[0-9]+/)?(?P<vendor>[^/]+)/(?P<file>(?P<slug>[^/]+)_(?P<points>[0-9a-f-]+)\.png)"
)

POINTS = re.compile(r"[0-9a-f]{1,6}(-[0-9a-f]{1,6}){0,15}")

# The categories of characters that no emoji has (controls, surrogates, private characters, spaces), and those that no
# emoji begins with (characters that join or vary others).
NO_EMOJI = frozenset(("Cc", "Cs", "Co", "Zs", "Zl", "Zp"))
NO_BEGINNING = frozenset(("Cf", "Mc", "Me", "Mn"))

# The categories of characters that are removed from names and descriptions.
REMOVED = frozenset(("Cc", "Cf", "Cs", "Co"))

MAX_URL_LENGTH = 2000
MAX_NAME_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 5000
MAX_ITEMS = 20_000


@dataclass(frozen=True)
class Item:
    """An emoji of the list: code points (`1F44B-1F3FB`), slug in words, and the URLs of its picture and page."""

    hexcode: str
    name: str
    image_url: str
    page_url: str | None

    @property
    def key(self) -> str:
        """Its key in emojibase; different for each item of a list."""
        return key(self.hexcode)


@dataclass(frozen=True)
class Listing:
    """A vendor's list: its emoji in the page's order, the entries left out, and the selector that found them.

    faults: pairs of an entry's text and the reason for leaving it out; selector: None where none matched.
    """

    items: tuple[Item, ...]
    faults: tuple[tuple[str, str], ...]
    selector: str | None


@dataclass(frozen=True)
class About:
    """The name and the description in an emoji's page, empty where no selector matched."""

    name: str
    description: str


class InvalidEntry(Exception):
    """The reason for leaving an entry of the list out."""


def read_list(html: str, page: URL, vendor: str) -> Listing:
    """The emoji in the list of `vendor`, which is at `page`, with the URLs of the full-size pictures."""
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
    """The name and the description in the page of an emoji."""
    tree = _parse(html)
    tree.strip_tags(["script", "style", "noscript", "template"])
    return About(_first(tree, NAMES, MAX_NAME_LENGTH), _first(tree, DESCRIPTIONS, MAX_DESCRIPTION_LENGTH))


def forbidding_meta(html: str) -> str | None:
    """The directive of a `<meta name="robots">`, or one for us by name, that forbids our use of the page; else None."""
    for meta in _parse(html).css("meta"):
        name = (meta.attributes.get("name") or "").strip().lower()
        if name == "tdm-reservation" and reserves(meta.attributes.get("content")):
            return name
        if name in ("robots", AGENT) and (directive := forbidding_directive(meta.attributes.get("content") or "")):
            return directive
    return None


def plain(text: str, longest: int) -> str:
    """One line of at most `longest` characters, without controls, marks of direction and halves of characters.

    The characters that join and vary emoji (U+200D, U+FE0F) are kept.
    """
    # Cut before each character is looked at: a page may hold a million.
    start = text.strip()[: 4 * longest]
    kept = "".join(char for char in start if char in "\u200d\t\n\r\f " or unicodedata.category(char) not in REMOVED)
    return " ".join(kept.split())[:longest].strip()


SHORTCODES = "caption|gallery|embed|video|audio|playlist|url|img|b|i|u|quote|code|vc_[a-z_]+|et_pb_[a-z_]+"
RESIDUE = re.compile(rf"</?[a-zA-Z][^<>]{{0,200}}>|<!--.{{0,200}}?-->|\[/?(?:{SHORTCODES})(?:[\s=][^\[\]]{{0,200}})?\]")
"""Tags and comments that were escaped once too often, and shortcodes of content management systems."""


def without_markup(text: str, longest: int) -> str:
    """`plain`, without residues of markup: "Cat &amp;amp; dog &lt;b&gt;" -> "Cat & dog"."""
    start = text.strip()[: 4 * longest]
    for _ in range(2):
        start = RESIDUE.sub(" ", unescape(start))
    spaced = re.sub(r"\s+([.,;:!?])", r"\1", start)
    return plain(spaced, longest)


def _choose(images: list[LexborNode], page: URL, vendor: str) -> tuple[tuple[Item, ...], tuple[tuple[str, str], ...]]:
    """One item for each emoji; a fault for an entry that is none, and for a second picture of one emoji."""
    items: dict[str, Item] = {}
    faults: dict[tuple[str, str], None] = {}
    for image in images:
        source = next((value for name in SOURCES if (value := image.attributes.get(name))), "")
        try:
            item = _item(source, _link(image), page, vendor)
            other = items.setdefault(item.key, item)
            if other.image_url != item.image_url:
                raise InvalidEntry("a second picture of one emoji")
            if len(items) > MAX_ITEMS:
                raise InvalidEntry(f"the list holds more than {MAX_ITEMS:,} pictures")
        except InvalidEntry as error:
            faults[plain(source, MAX_NAME_LENGTH), str(error)] = None
    return tuple(items.values())[:MAX_ITEMS], tuple(faults)


def _item(source: str, link: str, page: URL, vendor: str) -> Item:
    url = _address(source, page)
    match = PICTURE.fullmatch(url.raw_path)
    if match is None:
        raise InvalidEntry("no picture of an emoji, by its name")
    if match["vendor"] != vendor:
        raise InvalidEntry("not a picture of the vendor's")
    words = plain(URL.build(path=match["slug"], encoded=True).path.replace("-", " "), MAX_NAME_LENGTH)
    image_url = f"{page.origin()}{match['media']}/{vendor}/{match['file']}"
    return Item(_hexcode(match["points"]), words, image_url, _page_url(link, page))


def _address(reference: str, page: URL) -> URL:
    """The URL of `reference`, relative to `page`. Raises InvalidEntry unless it is on the same site."""
    if len(reference) > MAX_URL_LENGTH:
        raise InvalidEntry(f"an address of more than {MAX_URL_LENGTH:,} characters")
    try:
        url = page.join(URL(reference.strip()))
        on_site = url.origin() == page.origin()
    except ValueError:
        raise InvalidEntry("no address") from None
    if not on_site:
        raise InvalidEntry("on another site")
    return url


def _page_url(link: str, page: URL) -> str | None:
    """The URL of the emoji's page, `/<slug>/`, also for a link to `/<vendor>/<slug>/`; None without a link."""
    try:
        parts = [part for part in _address(link, page).raw_path.split("/") if part]
    except InvalidEntry:
        return None
    return f"{page.origin()}/{parts[-1]}/" if parts else None


def _hexcode(points: str) -> str:
    """Code points as emojibase writes them: capitals, four digits or more. Raises InvalidEntry where not an emoji's."""
    if not POINTS.fullmatch(points):
        raise InvalidEntry("its name holds no code points")
    numbers = [int(point, 16) for point in points.split("-")]
    kinds = [unicodedata.category(chr(number)) if number <= 0x10FFFF else "Cs" for number in numbers]
    if kinds[0] in NO_BEGINNING or not NO_EMOJI.isdisjoint(kinds):
        raise InvalidEntry("its name holds no code points")
    return "-".join(f"{number:04X}" for number in numbers)


def _link(image: LexborNode) -> str:
    """The target of the link around an image."""
    return next(
        (target for node in _ancestors(image) if node.tag == "a" and (target := node.attributes.get("href"))), ""
    )


def _ancestors(node: LexborNode) -> Iterator[LexborNode]:
    for _ in range(MAX_NEAR):
        if node.parent is None:
            return
        node = node.parent
        yield node


def _siblings(node: LexborNode) -> Iterator[LexborNode]:
    for _ in range(MAX_NEAR):
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
        for node in tree.css(place)[:MAX_NEAR]:
            for found in [node] if not sibling else [other for other in _siblings(node) if other.tag == sibling]:
                if text := without_markup(found.text(), longest):
                    return text
    return ""

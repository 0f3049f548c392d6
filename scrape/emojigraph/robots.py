"""The site's rules for robots: robots.txt (RFC 9309), the directives of X-Robots-Tag and `<meta name="robots">`, and
reservations of text and data mining (TDMRep, a W3C community group's protocol).
"""

import json
import math
import re
from fnmatch import fnmatchcase

from protego import Protego

from ..errors import ScrapeError

# Our name in robots.txt, X-Robots-Tag and <meta name>.
AGENT = "mlx-genmoji"

MAX_DELAY_S = 600.0

# The directives that forbid a use of pictures or texts for training.
FORBIDDING = frozenset(("noai", "noimageai", "noimageindex"))

# The directives with a value: the word before their colon is not the name of a robot.
WITH_VALUE = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))


class Robots:
    """A site's robots.txt: the addresses that it allows us, and `delay`, the seconds that it asks for between requests.

    Raises ScrapeError for a delay of more than `MAX_DELAY_S`.
    """

    def __init__(self, text: str, reservations: str = "") -> None:
        """text: of robots.txt, as `decoded` gives it. reservations: of tdmrep.json, "" where there is none."""
        self._rules = Protego.parse(text)
        self._reserved = _reservations(reservations)
        rate = self._rules.request_rate(AGENT)
        delays = [self._rules.crawl_delay(AGENT) or 0.0]
        if rate is not None:
            delays.append(rate.seconds / rate.requests if rate.requests > 0 else math.inf)
        self.delay = max(delays)
        # This refuses NaN too.
        if not 0 <= self.delay <= MAX_DELAY_S:
            raise ScrapeError(f"The site's robots.txt asks for {self.delay:,.0f} seconds between requests: too long.")

    def allow(self, url: str) -> bool:
        return bool(self._rules.can_fetch(url, AGENT))

    def reserved(self, path: str) -> bool:
        """Whether the site reserves the rights of text and data mining for a path: the first rule that matches."""
        return next((reserved for pattern, reserved in self._reserved if fnmatchcase(path, pattern)), False)


def decoded(body: bytes) -> str:
    """robots.txt as text, as editors write it: with or without a byte order mark, in UTF-8 or UTF-16, any line ends."""
    encoding = "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = body.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    # Spaces of other scripts, and a mark within the text, as pasting leaves them.
    return re.sub(r"[\ufeff\u200b]", "", text).replace("\u00a0", " ")


def reserves(value: str | None) -> bool:
    """Whether a `tdm-reservation` header or meta tag reserves the rights: its value is 1."""
    return (value or "").strip() == "1"


def _reservations(text: str) -> list[tuple[str, bool]]:
    """The rules of a tdmrep.json: patterns of paths, and whether they are reserved. None where it is no such file."""
    try:
        rules = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    found = []
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict) and isinstance(rule.get("location"), str):
            pattern = rule["location"].removesuffix("$")
            # As in robots.txt, a pattern is the beginning of a path unless it ends with "$".
            found.append(
                (pattern if rule["location"].endswith("$") else f"{pattern}*", str(rule.get("tdm-reservation")) == "1")
            )
    return found


def forbidding_directive(directives: str) -> str | None:
    """The first of the `FORBIDDING` directives for us in an X-Robots-Tag or the content of a meta tag, else None.

    directives: separated by commas; `name: ` before one addresses the robot of that name from there on.
    """
    agent = AGENT
    for part in directives.lower().split(","):
        name, colon, rest = (text.strip() for text in part.partition(":"))
        if colon and name not in WITH_VALUE:
            agent, name = name, rest
        if name in FORBIDDING and agent in (AGENT, "*"):
            return name
    return None

"""The site's rules for robots: robots.txt (RFC 9309), and the directives of X-Robots-Tag and `<meta name="robots">`."""

import math

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

    def __init__(self, text: str) -> None:
        self._rules = Protego.parse(text)
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

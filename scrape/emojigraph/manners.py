"""When the next request may leave, and which may never: the rate, the site's own wishes, robots.txt (RFC 9309)."""

import asyncio
import math

from aiolimiter import AsyncLimiter
from protego import Protego

from ..errors import ScrapeError

# The name that robots.txt knows us by.
AGENT = "mlx-genmoji"

LONGEST_DELAY_S = 600.0

# What `X-Robots-Tag` may say of a file that makes it none for us.
UNWANTED = frozenset(("noai", "noimageai"))

# Directives with a value, whose colon names no robot.
VALUED = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))


class Gate:
    """Lets one request pass every `interval` seconds (0: at once), and none while the site asked to be left alone."""

    def __init__(self, interval: float) -> None:
        self._limiter = AsyncLimiter(1, interval) if interval else None
        self._open_at = 0.0

    async def turn(self) -> None:
        """Return when a request may leave."""
        clock = asyncio.get_running_loop().time
        while True:
            if self._limiter is not None:
                await self._limiter.acquire()
            wait = self._open_at - clock()
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    def close(self, seconds: float) -> None:
        """Let nothing pass for the next `seconds`."""
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + seconds)


class Robots:
    """A site's robots.txt: what it allows us, and the seconds it wants between two requests.

    Raises ScrapeError where these are more than anybody would wait for.
    """

    def __init__(self, text: str) -> None:
        self._rules = Protego.parse(text)
        rate = self._rules.request_rate(AGENT)
        delays = [self._rules.crawl_delay(AGENT) or 0.0]
        if rate is not None:
            delays.append(rate.seconds / rate.requests if rate.requests > 0 else math.inf)
        self.delay = max(delays)
        # Written so that a delay that is no number is refused too.
        if not 0 <= self.delay <= LONGEST_DELAY_S:
            raise ScrapeError(f"The site's robots.txt asks for {self.delay:,.0f} seconds between requests: too long.")

    def allow(self, url: str) -> bool:
        return bool(self._rules.can_fetch(url, AGENT))


def unwanted(header: str) -> str | None:
    """What an `X-Robots-Tag` says against our use, `noai` for one; None where it says nothing of the kind."""
    agent = AGENT
    for part in header.lower().split(","):
        name, colon, rest = (text.strip() for text in part.partition(":"))
        if colon and name not in VALUED:
            agent, name = name, rest
        if name in UNWANTED and agent in (AGENT, "*"):
            return name
    return None

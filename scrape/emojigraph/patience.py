"""How long the crawler waits for a site, and when it gives up."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """`timeout`: seconds for one answer, its body included. `attempts`: requests for one address before it is given up.

    Between two attempts lies a pause: `first_pause` seconds, doubled each time up to `longest_pause`, times a random
    0.5 to 1. A site that asks for more (Retry-After) gets it, up to `longest_wait` seconds. After `given_up` addresses
    in a row, none of which was to be had in `attempts`, the crawl stops: the site is down, or the network is.
    """

    timeout: float = 30.0
    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 60.0
    longest_wait: float = 600.0
    given_up: int = 20

    def pause(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 1, came to nothing."""
        doubled: float = self.first_pause * 2.0 ** min(attempt - 1, 30)
        return min(self.longest_pause, doubled) * random.uniform(0.5, 1.0)

"""The retry policy: how long the crawler waits, how often it tries again, and when it gives up."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """The retry policy of a crawl; all times are in seconds.

    timeout: for one answer with its body; attempts: requests for one address before it is given up. Between two
    attempts lies a pause: `first_pause`, doubled each time up to `longest_pause`, times a random 0.5 to 1. A site that
    asks for a longer pause (Retry-After) gets it, up to `longest_wait`. given_up: the crawl stops after this many
    addresses in a row were given up, because the site or the network is down.
    """

    timeout: float = 30.0
    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 60.0
    longest_wait: float = 600.0
    given_up: int = 20

    def pause(self, attempt: int) -> float:
        """The seconds to wait after attempt number `attempt`, counted from 1, failed."""
        doubled: float = self.first_pause * 2.0 ** min(attempt - 1, 30)
        return min(self.longest_pause, doubled) * random.uniform(0.5, 1.0)

"""The rate limit: when the next request may be sent. Time comes from a `Clock`, which tests replace."""

import asyncio
from datetime import UTC, datetime


class Clock:
    """The time, and waiting for it to pass."""

    def time(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The date and time, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RateLimit:
    """Lets one request pass every `interval` seconds (0: at once), and none during a `pause`.

    The `interval` may change; it counts from the last request.
    """

    def __init__(self, interval: float, clock: Clock) -> None:
        self.interval, self._clock = interval, clock
        self._sent_at = self._paused_until = -float("inf")

    async def turn(self) -> float:
        """Return when a request may be sent, with the time of that moment."""
        while True:
            now, due = self._clock.time(), max(self._sent_at + self.interval, self._paused_until)
            if now >= due:
                self._sent_at = now
                return now
            await self._clock.sleep(due - now)

    def pause(self, seconds: float) -> float:
        """Let nothing pass for the next `seconds`; returns by how many seconds that prolongs the present pause."""
        now = self._clock.time()
        before, self._paused_until = self._paused_until, max(self._paused_until, now + seconds)
        return self._paused_until - max(before, now)

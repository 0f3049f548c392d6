"""The error that ends an attempt to fetch an address."""

FORBIDDEN = "the site forbids this use"
"""The beginning of a reason: the site allows no AI training on the file, by a header or a meta tag."""


class FetchError(Exception):
    """An address gave nothing usable.

    reason: the same text for the same fault in every run; retryable: another attempt may succeed; retry_after: the
    seconds that the site asked us to wait, 0 where it did not; status: the HTTP status where that is the fault;
    attempts: the number of attempts made; sent_at: when the request was sent; the client sets both.
    """

    def __init__(
        self, reason: str, *, retryable: bool = False, retry_after: float = 0.0, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.retryable, self.retry_after, self.status = reason, retryable, retry_after, status
        self.attempts, self.sent_at = 0, 0.0

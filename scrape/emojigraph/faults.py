"""The one exception that ends an attempt to get a file from the site."""


class Fault(Exception):
    """Why an address gave nothing usable; `reason` is the same words for the same fault on every run.

    `passing`: another attempt may do better. `wait`: the seconds that the site asked to be left alone for. `status`:
    the HTTP status, where that is the fault. `attempts`: how many were made, once the address is given up.
    """

    def __init__(self, reason: str, *, passing: bool = False, wait: float = 0.0, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.passing, self.wait, self.status = reason, passing, wait, status
        self.attempts = 0

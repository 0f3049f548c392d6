"""Makes the state's content of fetched pages, in limited time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from threading import Thread
from typing import Any, TypeVar

from yarl import URL

from .client import Answer
from .fetch_error import FORBIDDEN, FetchError
from .order import Order
from .pages import DESCRIPTIONS, LISTED, forbidding_meta, read_list, read_page

T = TypeVar("T")

Content = dict[str, Any]


def list_url(order: Order) -> str:
    return f"{URL(order.origin).origin()}/{order.vendor}/"


def list_reader(order: Order) -> Callable[[Answer], Awaitable[Content]]:
    """What makes the state's content of the list page's answer. It raises FetchError where that is not a list."""

    async def use(answer: Answer) -> Content:
        await _check_meta(order, answer)
        page = URL(list_url(order))
        listing = await _in_time(order.patience.timeout, read_list, answer.text, page, order.vendor)
        if listing.selector is None:
            selectors = ", ".join(selector.format(vendor=order.vendor) for selector in LISTED)
            raise FetchError(f"none of our selectors finds a picture there ({selectors}); the site may have changed")
        if not listing.items:
            raise FetchError(f"none of its pictures is an emoji of {order.vendor}: {listing.faults[0][1]}")
        return asdict(listing)

    return use


def page_reader(order: Order) -> Callable[[Answer], Awaitable[Content]]:
    """What makes the state's content of the answer for an emoji's page. It raises FetchError without a description."""

    async def use(answer: Answer) -> Content:
        await _check_meta(order, answer)
        about = await _in_time(order.patience.timeout, read_page, answer.text)
        if not about.description:
            raise FetchError(f"none of our selectors finds a description ({', '.join(DESCRIPTIONS)})")
        return asdict(about)

    return use


async def _check_meta(order: Order, answer: Answer) -> None:
    """Raise FetchError where a meta tag of the page forbids our use of it."""
    if directive := await _in_time(order.patience.timeout, forbidding_meta, answer.text):
        raise FetchError(f"{FORBIDDEN} (meta robots: {directive})")


async def _in_time(seconds: float, function: Callable[..., T], *arguments: Any) -> T:
    """Call `function` in a thread and return its result. Raises FetchError if that takes more than `seconds`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T) -> None:
        if not done.done():
            done.set_result(result)

    def work() -> None:
        result = function(*arguments)
        # The event loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, result)

    Thread(target=work, daemon=True).start()
    try:
        return await asyncio.wait_for(done, seconds)
    except TimeoutError:
        raise FetchError(f"a page that takes more than {seconds:g} s to read") from None

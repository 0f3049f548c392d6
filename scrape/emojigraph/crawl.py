"""Runs a crawl: the list, then every picture and page that is not settled, then the dataset."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from tqdm import tqdm
from yarl import URL

from ..emojibase import Emoji, read_emojis
from ..errors import ScrapeError
from .client import IMAGE, LIST, PAGE, Answer, Client, Kind, Validators
from .collect import CrawlReport, Order
from .faults import Fault
from .images import draw
from .pages import DESCRIPTIONS, LISTED, Item, Listing, read_list, read_page
from .rows import emoji_of, row
from .state import Entry, State
from .writer import Folder

# Pictures are drawn beside the network, a few at a time: one takes milliseconds, and megabytes while it is drawn.
DRAWERS = 4

T = TypeVar("T")

Content = dict[str, Any]


def run(order: Order, output: Path, emojibase: Path | None) -> CrawlReport:
    """Make or renew the dataset; see `collect_emojigraph`."""
    folder = Folder(output)
    emojis = read_emojis(emojibase)
    with State(folder.state, order.origin, order.vendor) as state:
        return asyncio.run(_run(order, folder, state, emojis))


def dry(order: Order, output: Path) -> CrawlReport:
    """What a first run would fetch, from the list alone."""
    return asyncio.run(_dry(order, output))


async def _run(order: Order, folder: Folder, state: State, emojis: dict[str, Emoji]) -> CrawlReport:
    async with _client(order) as client:
        await client.obey_robots()
        crawl = Crawl(order, client, folder, state, emojis)
        try:
            await crawl.read_list()
            await crawl.collect()
            return crawl.finish()
        finally:
            crawl.close()


async def _dry(order: Order, output: Path) -> CrawlReport:
    async with _client(order) as client:
        await client.obey_robots()
        url = _list_url(order)
        try:
            content, _, _ = await client.fetch(url, LIST, Validators(), _list_reader(order))
        except Fault as fault:
            raise _no_list(url, fault) from fault
        assert content is not None, "nothing was known that could be unchanged"
        listing = _listing(content)
        chosen = listing.items[: order.limit]
        pages = len({item.page_url for item in chosen if item.page_url}) if order.descriptions else 0
        requests = len(chosen) + pages
        failures = Counter(reason for _, reason in listing.faults)
        return CrawlReport(order.vendor, output, len(chosen), requests, failures, True, requests * client.interval)


class Crawl:
    """One run. `listing` is the vendor's list, once it is read."""

    def __init__(self, order: Order, client: Client, folder: Folder, state: State, emojis: dict[str, Emoji]) -> None:
        self.order, self.client, self.folder, self.state, self.emojis = order, client, folder, state, emojis
        self.listing = Listing((), (), None)
        self._drawers = ThreadPoolExecutor(DRAWERS)
        # What was given up since something last succeeded.
        self._given_up: list[tuple[str, str]] = []

    def close(self) -> None:
        self._drawers.shutdown()

    async def read_list(self) -> None:
        """Fetch the vendor's list, unless this crawl has it. Raises ScrapeError where there is none."""
        url = _list_url(self.order)
        entry = self.state.get(LIST.name, url)
        if entry is None or entry.crawl != self.state.crawl or entry.content is None:
            try:
                await self._fetch(LIST, url, entry, _list_reader(self.order))
            except Fault as fault:
                raise _no_list(url, fault) from fault
            entry = self.state.get(LIST.name, url)
        assert entry is not None and entry.content is not None
        self.listing = _listing(entry.content)

    async def collect(self) -> None:
        """Settle every picture and, if they are asked for, every page of the list, or of its beginning."""
        waiting = self._jobs()
        with tqdm(total=sum(1 for _ in self._jobs()), desc=self.order.vendor, disable=None, unit="file") as bar:

            async def work() -> None:
                for job, subject in waiting:
                    await job(subject)
                    bar.update()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.order.concurrency):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from errors

    def finish(self) -> CrawlReport:
        """Write the dataset of all pictures there are, and what failed."""
        shown = [
            (emoji_of(item, self.emojis, self._about(item)["name"] or item.name), item) for item in self.listing.items
        ]
        shown.sort(key=lambda pair: (pair[0].order, pair[1].key))
        # One at a time: thousands of rows need not be in memory together.
        rows = (
            row(item, emoji, self._about(item), content, self.order)
            for emoji, item in shown
            if (content := self._content(item))
        )
        failures = list(self._failures())
        failed = ({"kind": kind, "url": url, "reason": reason} for kind, url, reason in failures)
        images = self.folder.finish(rows, failed, {self._hexcode(item) for item in self.listing.items})
        self.state.finish()
        reasons = Counter(f"{kind}: {reason}" for kind, _, reason in failures)
        return CrawlReport(
            self.order.vendor, self.folder.path, images, self.client.requests, dict(reasons.most_common())
        )

    def _chosen(self) -> tuple[Item, ...]:
        return self.listing.items[: self.order.limit]

    def _jobs(self) -> Iterator[tuple[Callable[[Any], Awaitable[None]], Any]]:
        pages = set()
        for item in self._chosen():
            yield self._settle_image, item
            if self.order.descriptions and item.page_url and item.page_url not in pages:
                pages.add(item.page_url)
                yield self._settle_page, item.page_url

    async def _settle_image(self, item: Item) -> None:
        entry = self.state.get(IMAGE.name, item.image_url)
        content = entry.content if entry else None
        intact = content is not None and await self._drawing(self._intact, item, content)
        if entry and entry.crawl == self.state.crawl and (entry.failure or intact):
            return

        async def use(answer: Answer) -> Content:
            return await self._drawing(self._keep, item, answer.body or b"")

        await self._settle(IMAGE, item.image_url, entry if intact else None, use)

    async def _settle_page(self, url: str) -> None:
        entry = self.state.get(PAGE.name, url)
        if entry is None or entry.crawl != self.state.crawl:
            await self._settle(PAGE, url, entry, _page_reader(self.order))

    async def _settle(
        self, kind: Kind, url: str, entry: Entry | None, use: Callable[[Answer], Awaitable[Content]]
    ) -> None:
        """Fetch a file, or note why it is not to be had. Raises ScrapeError where nothing is any more."""
        try:
            await self._fetch(kind, url, entry, use)
        except Fault as fault:
            self.state.fail(kind.name, url, fault.reason, fault.attempts)
            if fault.passing:
                self._given_up.append((kind.name, url))
            else:
                self._given_up.clear()
            if len(self._given_up) >= self.order.patience.given_up:
                self.state.unsettle(self._given_up)
                raise ScrapeError(
                    f"{self.order.origin} gave nothing usable for {len(self._given_up)} files in a row"
                    f" ({fault.reason}); run the same command later, and it goes on from here."
                ) from fault
        else:
            self._given_up.clear()

    async def _fetch(
        self, kind: Kind, url: str, entry: Entry | None, use: Callable[[Answer], Awaitable[Content]]
    ) -> None:
        known = entry if entry and entry.content is not None else None
        content, validators, attempts = await self.client.fetch(
            url, kind, known.validators if known else Validators(), use
        )
        if content is None:
            content = (known.content if known else None) or {}
        self.state.succeed(kind.name, url, content, validators, attempts)

    async def _drawing(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._drawers, function, *arguments)

    def _keep(self, item: Item, data: bytes) -> Content:
        """Draw and write a picture; what the state holds of it."""
        drawn = draw(data, self.order.form)
        hexcode = self._hexcode(item)
        self.folder.keep(hexcode, drawn.png, data if self.order.form.keep_originals else None)
        form = self.order.form
        return {"size": form.size, "margin": form.margin, "sha256": drawn.sha256, "png_sha256": drawn.png_sha256}

    def _intact(self, item: Item, content: Content) -> bool:
        """Whether the folder holds what the state says it does, and what is asked for now."""
        original = content["sha256"] if self.order.form.keep_originals else None
        same_form = (content["size"], content["margin"]) == (self.order.form.size, self.order.form.margin)
        return same_form and self.folder.holds(self._hexcode(item), content["png_sha256"], original)

    def _hexcode(self, item: Item) -> str:
        known = self.emojis.get(item.key)
        return known.hexcode if known else item.hexcode

    def _content(self, item: Item) -> Content | None:
        """What the state holds of a picture that the folder holds too."""
        entry = self.state.get(IMAGE.name, item.image_url)
        content = entry.content if entry else None
        return content if content and self._intact(item, content) else None

    def _about(self, item: Item) -> Content:
        entry = self.state.get(PAGE.name, item.page_url) if self.order.descriptions and item.page_url else None
        return (entry.content if entry else None) or {"name": "", "description": ""}

    def _failures(self) -> Iterator[tuple[str, str, str]]:
        """Kind, address and reason of all that the dataset lacks."""
        for said, reason in self.listing.faults:
            yield "entry", said, reason
        for item in self._chosen() if self.order.descriptions else ():
            if item.page_url is None:
                yield PAGE.name, item.image_url, "the list links to no page of this picture's emoji"
        yield from self.state.failures()


def _client(order: Order) -> Client:
    return Client(
        URL(order.origin),
        rate=order.rate,
        concurrency=order.concurrency,
        contact=order.contact,
        patience=order.patience,
    )


def _list_url(order: Order) -> str:
    return f"{URL(order.origin).origin()}/{order.vendor}/"


def _list_reader(order: Order) -> Callable[[Answer], Awaitable[Content]]:
    async def use(answer: Answer) -> Content:
        page = URL(_list_url(order))
        listing = await _in_time(order.patience.timeout, read_list, answer.text, page, order.vendor)
        if listing.selector is None:
            selectors = ", ".join(selector.format(vendor=order.vendor) for selector in LISTED)
            raise Fault(f"none of our selectors finds a picture there ({selectors}); the site may have changed")
        if not listing.items:
            raise Fault(f"none of its pictures is an emoji of {order.vendor}: {listing.faults[0][1]}")
        return asdict(listing)

    return use


def _page_reader(order: Order) -> Callable[[Answer], Awaitable[Content]]:
    async def use(answer: Answer) -> Content:
        about = await _in_time(order.patience.timeout, read_page, answer.text)
        if not about.description:
            raise Fault(f"none of our selectors finds a description ({', '.join(DESCRIPTIONS)})")
        return asdict(about)

    return use


async def _in_time(seconds: float, function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns. Raises Fault if that takes too long, as it does on markup made for that."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T) -> None:
        if not done.done():
            done.set_result(result)

    def work() -> None:
        result = function(*arguments)
        # By now there may be nobody to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result)

    Thread(target=work, daemon=True).start()
    try:
        return await asyncio.wait_for(done, seconds)
    except TimeoutError:
        raise Fault(f"a page that takes more than {seconds:g} s to read") from None


def _listing(content: Content) -> Listing:
    """A list as the state holds it."""
    items = tuple(Item(**fields) for fields in content["items"])
    return Listing(items, tuple((said, reason) for said, reason in content["faults"]), content["selector"])


def _no_list(url: str, fault: Fault) -> ScrapeError:
    return ScrapeError(f"{url} cannot be read: {fault.reason}.")

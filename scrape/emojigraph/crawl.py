"""Runs a crawl: reads the list, fetches each picture and page that is not settled, and writes the dataset."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm
from yarl import URL

from ..emojibase import Emoji, read_emojis
from ..errors import ScrapeError
from .client import IMAGE, LIST, PAGE, Answer, Client, Kind, Validators
from .crawl_state import CrawlState, Entry
from .fetch_error import FORBIDDEN, FetchError
from .images import draw
from .order import CrawlReport, Order
from .pages import Item, Listing
from .readers import list_reader, list_url, page_reader
from .rows import emoji_of, row
from .writer import CrawlWriter

# Threads that draw pictures while others are fetched; a picture takes milliseconds, and megabytes of memory.
DRAWING_THREADS = 4

# A list that lacks more of the pictures in the folder is refused: the site may have had a fault.
MIN_KEPT = 0.9

T = TypeVar("T")

Content = dict[str, Any]


def run(order: Order, output: Path, emojibase: Path | None) -> CrawlReport:
    """Make or renew the dataset; see `collect_emojigraph`."""
    writer = CrawlWriter(output)
    emojis = read_emojis(emojibase)
    with CrawlState(writer.state, order.origin, order.vendor) as state:
        return asyncio.run(_run(order, writer, state, emojis))


def dry(order: Order, output: Path) -> CrawlReport:
    """Read the list only, and report what a first run would fetch."""
    return asyncio.run(_dry(order, output))


async def _run(order: Order, writer: CrawlWriter, state: CrawlState, emojis: dict[str, Emoji]) -> CrawlReport:
    async with _client(order) as client:
        await client.obey_robots()
        crawl = Crawl(order, client, writer, state, emojis)
        try:
            await crawl.read_list()
            await crawl.collect()
            return crawl.finish()
        finally:
            crawl.close()


async def _dry(order: Order, output: Path) -> CrawlReport:
    async with _client(order) as client:
        await client.obey_robots()
        url = list_url(order)
        try:
            content, _, _ = await client.fetch(url, LIST, Validators(), list_reader(order))
        except FetchError as error:
            raise _no_list(url, error) from error
        assert content is not None, "nothing was known that could be unchanged"
        listing = _listing(content)
        chosen = listing.items[: order.limit]
        pages = len({item.page_url for item in chosen if item.page_url}) if order.descriptions else 0
        requests = len(chosen) + pages
        failures = Counter(reason for _, reason in listing.faults)
        return CrawlReport(order.vendor, output, len(chosen), requests, failures, True, requests * client.interval)


class Crawl:
    """One run. `listing` is the vendor's list, after `read_list`."""

    def __init__(
        self, order: Order, client: Client, writer: CrawlWriter, state: CrawlState, emojis: dict[str, Emoji]
    ) -> None:
        self.order, self.client, self.writer, self.state, self.emojis = order, client, writer, state, emojis
        self.listing = Listing((), (), None)
        self._threads = ThreadPoolExecutor(DRAWING_THREADS)
        # The files (kind, URL) that were given up since the last success.
        self._given_up: list[tuple[str, str]] = []

    def close(self) -> None:
        self._threads.shutdown()

    async def read_list(self) -> None:
        """Fetch the vendor's list, unless this crawl has it. Raises ScrapeError where there is none, or it is short."""
        url = list_url(self.order)
        entry = self.state.get(LIST.name, url)
        if entry is None or entry.crawl != self.state.crawl or entry.content is None:
            try:
                await self._fetch(LIST, url, entry, list_reader(self.order))
            except FetchError as error:
                raise _no_list(url, error) from error
            entry = self.state.get(LIST.name, url)
        assert entry is not None and entry.content is not None
        self.listing = _listing(entry.content)
        present = self.writer.hexcodes()
        kept = present & self._listed()
        if not self.order.accept_fewer and len(kept) < MIN_KEPT * len(present):
            # The next run reads the list again.
            self.state.unsettle([(LIST.name, url)])
            raise ScrapeError(
                f"{url} lists only {len(kept):,} of the {len(present):,} pictures in {self.writer.path}; nothing was"
                " changed. Try again later, or use --accept-fewer to remove the others."
            )

    async def collect(self) -> None:
        """Settle the pictures and, for descriptions, the pages of the list, up to the order's limit."""
        jobs = self._jobs()
        with tqdm(total=sum(1 for _ in self._jobs()), desc=self.order.vendor, disable=None, unit="file") as bar:

            async def work() -> None:
                for settle, subject in jobs:
                    await settle(subject)
                    bar.update()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.order.concurrency):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from errors

    def finish(self) -> CrawlReport:
        """Write the dataset of all pictures that were fetched, and the list of failures."""
        items = [
            (emoji_of(item, self.emojis, self._about(item)["name"] or item.name), item) for item in self.listing.items
        ]
        items.sort(key=lambda pair: (pair[0].order, pair[1].key))
        # One at a time: thousands of rows need not be in memory together.
        rows = (
            row(item, emoji, self._about(item), content, self.order)
            for emoji, item in items
            if (content := self._content(item))
        )
        failures = list(self._failures())
        lines = ({"kind": kind, "url": url, "reason": reason} for kind, url, reason in failures)
        images = self.writer.finish(rows, lines, self._listed())
        self.state.finish()
        reasons = Counter(f"{kind}: {reason}" for kind, _, reason in failures)
        return CrawlReport(
            self.order.vendor, self.writer.path, images, self.client.requests, dict(reasons.most_common())
        )

    def _listed(self) -> set[str]:
        """The hexcodes of the list, except of emoji whose picture the site forbids us to use."""
        return {self._hexcode(item) for item in self.listing.items if not self._forbidden(item)}

    def _chosen(self) -> tuple[Item, ...]:
        return self.listing.items[: self.order.limit]

    def _forbidden(self, item: Item) -> bool:
        """Whether a header or a meta tag, of the picture or of the emoji's page, forbids our use of the picture."""
        entries = [self.state.get(IMAGE.name, item.image_url), self._page_entry(item)]
        return any(entry and entry.failure and entry.failure.startswith(FORBIDDEN) for entry in entries)

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
        intact = content is not None and await self._in_thread(self._intact, item, content)
        if entry and entry.crawl == self.state.crawl and (entry.failure or intact):
            return

        async def use(answer: Answer) -> Content:
            return await self._in_thread(self._draw, item, answer.body or b"")

        await self._settle(IMAGE, item.image_url, entry if intact else None, use)

    async def _settle_page(self, url: str) -> None:
        entry = self.state.get(PAGE.name, url)
        if entry is None or entry.crawl != self.state.crawl:
            await self._settle(PAGE, url, entry, page_reader(self.order))

    async def _settle(
        self, kind: Kind, url: str, entry: Entry | None, use: Callable[[Answer], Awaitable[Content]]
    ) -> None:
        """Fetch a file, or record why that failed. Raises ScrapeError once too many files in a row were given up."""
        try:
            await self._fetch(kind, url, entry, use)
        except FetchError as error:
            self.state.fail(kind.name, url, error.reason, error.attempts)
            if error.retryable:
                self._given_up.append((kind.name, url))
            else:
                self._given_up.clear()
            if len(self._given_up) >= self.order.patience.given_up:
                self.state.unsettle(self._given_up)
                raise ScrapeError(
                    f"{self.order.origin} gave nothing usable for {len(self._given_up)} files in a row"
                    f" ({error.reason}); run the same command later, and it continues from here."
                ) from error
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

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _draw(self, item: Item, data: bytes) -> Content:
        """Draw and write a fetched picture; returns its content for the state."""
        form = self.order.form
        drawn = draw(data, form)
        self.writer.add(self._hexcode(item), drawn.png, data if form.keep_originals else None)
        return {"size": form.size, "margin": form.margin, "sha256": drawn.sha256, "png_sha256": drawn.png_sha256}

    def _intact(self, item: Item, content: Content) -> bool:
        """Whether the folder holds the picture that the state describes, in the form of this order."""
        original = content["sha256"] if self.order.form.keep_originals else None
        same_form = (content["size"], content["margin"]) == (self.order.form.size, self.order.form.margin)
        return same_form and self.writer.holds(self._hexcode(item), content["png_sha256"], original)

    def _hexcode(self, item: Item) -> str:
        known = self.emojis.get(item.key)
        return known.hexcode if known else item.hexcode

    def _content(self, item: Item) -> Content | None:
        """The state's content for a picture, None unless the folder holds that picture and the site allows its use."""
        entry = None if self._forbidden(item) else self.state.get(IMAGE.name, item.image_url)
        content = entry.content if entry else None
        return content if content and self._intact(item, content) else None

    def _page_entry(self, item: Item) -> Entry | None:
        return self.state.get(PAGE.name, item.page_url) if item.page_url else None

    def _about(self, item: Item) -> Content:
        """The name and the description in the emoji's page, empty where they are unknown or not wanted."""
        entry = self._page_entry(item) if self.order.descriptions else None
        return (entry.content if entry else None) or {"name": "", "description": ""}

    def _failures(self) -> Iterator[tuple[str, str, str]]:
        """Kind, URL and reason of each file that the dataset lacks."""
        for entry, reason in self.listing.faults:
            yield "entry", entry, reason
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


def _listing(content: Content) -> Listing:
    """A list from the state's content."""
    items = tuple(Item(**fields) for fields in content["items"])
    return Listing(items, tuple((entry, reason) for entry, reason in content["faults"]), content["selector"])


def _no_list(url: str, error: FetchError) -> ScrapeError:
    return ScrapeError(f"{url} cannot be read: {error.reason}.")

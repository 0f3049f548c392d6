"""What leaves for the site, how often, and what it forbids."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from folders import Collect, reasons, rows
from local_site import (
    Listed,
    LocalSite,
    Reply,
    most_in,
)

from scrape import ScrapeError
from scrape.emojigraph import Patience


@pytest.mark.parametrize(
    ("rate", "robots", "most"), [(25.0, "", 26), (0.0, "Crawl-delay: 0.05", 21), (25.0, "Request-rate: 10/1s", 11)]
)
def test_no_more_requests_leave_than_the_user_and_the_site_want(
    collect: Collect, site: LocalSite, rate: float, robots: str, most: int
) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(f"User-agent: *\n{robots}\n".encode())
    collect(rate=rate)
    assert len(site.log) == 26
    # Counted from the list on: robots.txt is read before it can be obeyed.
    assert most // 2 <= most_in(1.0, (served for served in site.log if served.path != "/robots.txt")) <= most


def test_robots_txt_is_obeyed(collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str) -> None:
    rules = f"User-agent: *\nDisallow: /\n\nUser-agent: MLX-Genmoji\nDisallow: {listed[0].image}\nDisallow: /thing-1/\n"
    site.routes["/robots.txt"] = lambda request: Reply(rules.encode())
    collect()
    assert reasons(out, url) == {listed[0].image: "robots.txt forbids it", "/thing-1/": "robots.txt forbids it"}
    assert not site.asked(listed[0].image) and not site.asked("/thing-1/")
    assert rows(out)["1F301"]["description"] == ""


def test_a_list_that_robots_txt_forbids_is_not_read(collect: Collect, site: LocalSite, out: Path) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nDisallow: /apple\n")
    with pytest.raises(ScrapeError, match=r"/apple/ cannot be read: robots\.txt forbids it\.$"):
        collect()
    assert [served.path for served in site.log] == ["/robots.txt"]


@pytest.mark.parametrize("reply", [Reply(b"", 503), Reply(b"", 302, {"Location": "http://127.0.0.1:9/"})])
def test_without_robots_txt_to_be_read_nothing_is_fetched(collect: Collect, site: LocalSite, reply: Reply) -> None:
    site.routes["/robots.txt"] = lambda request: reply
    with pytest.raises(ScrapeError, match="without it nothing may be fetched"):
        collect()
    assert {served.path for served in site.log} == {"/robots.txt"}


def test_the_delay_that_robots_txt_asks_for_begins_with_itself(collect: Collect, site: LocalSite) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nCrawl-delay: 0.5\n")
    collect(limit=1, descriptions=False)
    times = [served.at for served in site.log]
    assert len(times) == 3 and min(later - at for at, later in pairwise(times)) >= 0.45


def test_a_site_without_robots_txt_forbids_nothing(collect: Collect, site: LocalSite) -> None:
    del site.routes["/robots.txt"]
    assert collect().complete


def test_a_delay_that_nobody_would_wait_for_is_one_sentence(collect: Collect, site: LocalSite) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nCrawl-delay: 86400\n")
    with pytest.raises(ScrapeError, match="asks for 86,400 seconds between requests"):
        collect()


@pytest.mark.parametrize(
    "directive", ["noai", "noindex, noimageai", "mlx-genmoji: noai", "unavailable_after: 1 Jan 2030, noai"]
)
def test_a_picture_that_is_not_for_learning_from_is_left(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str, directive: str
) -> None:
    tagged, other = (emoji.image for emoji in listed[:2])
    site.routes[tagged] = lambda request: Reply(
        listed[0].picture, headers={"Content-Type": "image/png", "X-Robots-Tag": directive}
    )
    route = site.routes[other]
    site.routes[other] = lambda request: Reply(
        route(request).body, headers={"Content-Type": "image/png", "X-Robots-Tag": "otherbot: noai"}
    )
    collect()
    (reason,) = reasons(out, url).values()
    assert reason.startswith("the site does not want it used so (X-Robots-Tag: no")


@pytest.mark.parametrize("in_words", [False, True])
def test_everything_waits_as_long_as_the_site_asks(
    collect: Collect, site: LocalSite, listed: list[Listed], in_words: bool
) -> None:
    route = site.routes[listed[4].image]

    def busy(request: Any) -> Reply:
        if request.attempt > 1:
            return route(request)
        until = datetime.now(UTC) + timedelta(seconds=2)
        return Reply(b"", 429, {"Retry-After": format_datetime(until, usegmt=True) if in_words else "1"}, faulty=True)

    site.routes[listed[4].image] = busy
    collect(concurrency=1)
    # The log holds the request that was told to wait, and after it those that waited.
    (refused,) = (place for place, served in enumerate(site.log) if served.faulty)
    assert site.log[refused + 1].at - site.log[refused].at >= 0.95
    assert site.log[refused + 1].path == listed[4].image


def test_a_wait_past_all_patience_gives_one_picture_up(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str
) -> None:
    patience = Patience(timeout=2, first_pause=0.01, longest_wait=0.2)
    site.routes[listed[4].image] = lambda request: Reply(b"", 503, {"Retry-After": "99999999999"})
    collect(patience=patience)
    assert reasons(out, url) == {listed[4].image: "HTTP 503"}
    assert len(site.asked(listed[4].image)) == 1


def test_pauses_grow_to_a_cap_and_differ() -> None:
    patience = Patience(first_pause=1, longest_pause=60)
    pauses = [[patience.pause(attempt) for _ in range(200)] for attempt in (1, 2, 3, 50, 5000)]
    assert [
        (0.5 * top <= min(drawn) and max(drawn) <= top) for top, drawn in zip((1, 2, 4, 60, 60), pauses, strict=True)
    ] == [True] * 5
    assert all(len(set(drawn)) > 100 for drawn in pauses)


def test_requests_say_who_asks_and_for_what(collect: Collect, site: LocalSite) -> None:
    collect(contact="https://example.org/me")
    agents = {headers["user-agent"] for headers in site.headers}
    assert len(agents) == 1 and agents.pop().startswith("mlx-genmoji/")
    assert all("https://example.org/me" in headers["user-agent"] for headers in site.headers)
    assert not any("cookie" in headers for headers in site.headers)

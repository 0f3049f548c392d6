"""How often requests are sent, how long the crawler waits, and what the site forbids."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest
from folders import Collect, QuickClock, reasons, rows
from local_site import Listed, LocalSite, Reply, Request, emoji_page, html, list_page, serve
from yarl import URL

from scrape import ScrapeError, collect_emojigraph
from scrape.emojigraph import Patience
from scrape.emojigraph.client import Client
from scrape.emojigraph.fetch_error import FetchError
from scrape.emojigraph.rate_limit import RateLimit


@pytest.mark.parametrize(
    ("rate", "robots", "interval"),
    [(25.0, "", 0.04), (0.0, "Crawl-delay: 0.05", 0.05), (25.0, "Request-rate: 10/1s", 0.1)],
)
def test_no_more_requests_leave_than_the_user_and_the_site_want(
    collect: Collect, site: LocalSite, clock: QuickClock, rate: float, robots: str, interval: float
) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(f"User-agent: *\n{robots}\n".encode())
    collect(rate=rate, concurrency=1)
    times = [served.at for served in site.log]
    assert [later - at for at, later in pairwise(times)] == pytest.approx([interval] * 26)


def test_the_rate_limit_holds_for_all_workers_together_and_through_pauses() -> None:
    clock, sent = QuickClock(), []
    limit = RateLimit(0.5, clock)

    async def worker() -> None:
        for _ in range(10):
            sent.append(await limit.turn())
            if len(sent) == 25:
                assert limit.pause(60) == 60 and limit.pause(50) == 0 and limit.pause(70) == 10

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(worker())

    asyncio.run(run())
    gaps = [later - at for at, later in pairwise(sent)]
    assert len(sent) == 40 and gaps[24] == 70 and gaps[:24] + gaps[25:] == [0.5] * 38


def test_robots_txt_is_obeyed(collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str) -> None:
    rules = f"User-agent: *\nDisallow: /\n\nUser-agent: MLX-Genmoji\nDisallow: {listed[0].image}\nDisallow: /thing-1/\n"
    site.routes["/robots.txt"] = lambda request: Reply(rules.encode())
    collect()
    assert reasons(out, url) == {listed[0].image: "robots.txt forbids it", "/thing-1/": "robots.txt forbids it"}
    assert not site.requested(listed[0].image) and not site.requested("/thing-1/")
    assert rows(out)["1F301"]["description"] == ""


def test_a_list_that_robots_txt_forbids_is_not_read(collect: Collect, site: LocalSite, out: Path) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nDisallow: /apple\n")
    with pytest.raises(ScrapeError, match=r"/apple/ cannot be read: robots\.txt forbids it\.$"):
        collect()
    assert [served.path for served in site.log] == ["/robots.txt", "/.well-known/tdmrep.json"]


@pytest.mark.parametrize("reply", [Reply(b"", 503), Reply(b"", 302, {"Location": "http://127.0.0.1:9/"})])
def test_without_robots_txt_to_be_read_nothing_is_fetched(collect: Collect, site: LocalSite, reply: Reply) -> None:
    site.routes["/robots.txt"] = lambda request: reply
    with pytest.raises(ScrapeError, match="without it nothing may be fetched"):
        collect()
    assert {served.path for served in site.log} == {"/robots.txt"}


def test_the_delay_that_robots_txt_asks_for_begins_with_itself(
    collect: Collect, site: LocalSite, clock: QuickClock
) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nCrawl-delay: 0.5\n")
    collect(limit=1, descriptions=False)
    assert [served.at for served in site.log] == [0.0, 0.5, 1.0, 1.5]


def test_a_site_without_robots_txt_forbids_nothing(collect: Collect, site: LocalSite) -> None:
    del site.routes["/robots.txt"]
    assert collect().complete


def test_a_delay_that_nobody_would_wait_for_is_one_sentence(collect: Collect, site: LocalSite) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nCrawl-delay: 86400\n")
    with pytest.raises(ScrapeError, match="asks for 86,400 seconds between requests"):
        collect()


@pytest.mark.parametrize(
    ("header", "directive"),
    [
        ("noai", "noai"),
        ("noindex, noimageai", "noimageai"),
        ("NoImageIndex", "noimageindex"),
        ("mlx-genmoji: noai", "noai"),
        ("unavailable_after: 1 Jan 2030, noai", "noai"),
    ],
)
def test_a_picture_that_is_not_for_learning_from_is_left(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str, header: str, directive: str
) -> None:
    tag(site, listed[0].image, header)
    tag(site, listed[1].image, "otherbot: noai")
    assert collect().images == 11
    assert reasons(out, url) == {listed[0].image: f"the site forbids this use (X-Robots-Tag: {directive})"}


@pytest.mark.parametrize(
    ("meta", "directive"),
    [
        ("<meta name='robots' content='noai, noimageai'>", "noai"),
        ("<META NAME=Robots CONTENT='index, NoImageIndex'>", "noimageindex"),
        ("<meta name='mlx-genmoji' content='noimageai'>", "noimageai"),
        ("<meta content='otherbot: noai, mlx-genmoji: noimageai' name='robots'>", "noimageai"),
    ],
)
def test_a_page_that_forbids_learning_loses_its_picture_too(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str, meta: str, directive: str
) -> None:
    collect()
    others = "<meta name=robots content='index, max-image-preview:large'><meta name=otherbot content=noai><meta>"
    site.routes[listed[0].page] = html(meta + emoji_page(listed[0]))
    site.routes[listed[1].page] = html(others + emoji_page(listed[1]))
    assert collect().images == 11
    assert reasons(out, url) == {listed[0].page: f"the site forbids this use (meta robots: {directive})"}
    assert listed[0].points.upper() not in rows(out)
    assert not (out / "images" / f"{listed[0].points.upper()}.png").exists()
    site.routes[listed[0].page] = html(emoji_page(listed[0]))
    assert collect().images == 12


def test_a_list_that_forbids_learning_is_not_crawled(collect: Collect, site: LocalSite, listed: list[Listed]) -> None:
    site.routes["/apple/"] = html("<meta name=robots content=noai>" + list_page(listed))
    with pytest.raises(ScrapeError, match=r"cannot be read: the site forbids this use \(meta robots: noai\)\.$"):
        collect()
    assert not site.requested("/media/")


def test_a_picture_that_becomes_forbidden_leaves_the_dataset(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect()
    tag(site, listed[0].image, "noai")
    assert collect().images == 11
    assert not (out / "images" / f"{listed[0].points.upper()}.png").exists()


def tag(site: LocalSite, path: str, header: str) -> None:
    """Send the file at `path` with an X-Robots-Tag from now on, also where it is unchanged."""
    route = site.routes[path]

    def tagged(request: Request) -> Reply:
        reply = route(request)
        return replace(reply, headers={**reply.headers, "X-Robots-Tag": header})

    site.routes[path] = tagged


@pytest.mark.parametrize("retry_after", ["70", format_datetime(QuickClock.START + timedelta(seconds=70), usegmt=True)])
def test_everything_waits_as_long_as_the_site_asks(
    collect: Collect,
    site: LocalSite,
    listed: list[Listed],
    clock: QuickClock,
    retry_after: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy_once(site, listed[4].image, Reply(b"", 429, {"Retry-After": retry_after}))
    collect(concurrency=1, patience=Patience(timeout=2))
    # No other request was sent in the meantime.
    assert [served.path for served in site.log].count(listed[4].image) == 2
    assert {served.at for served in site.log} == {0.0, 70.0}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "overloaded" in line]
    assert line.endswith(" is overloaded (HTTP 429); the next request is sent in 70 s.")


def busy_once(site: LocalSite, path: str, reply: Reply) -> None:
    route = site.routes[path]
    site.routes[path] = lambda request: reply if request.attempt == 1 else route(request)


@pytest.mark.parametrize("status", [429, 503])
def test_without_retry_after_an_overloaded_site_is_left_alone_longer_each_time(
    collect: Collect, site: LocalSite, clock: QuickClock, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in site.routes:
        if path not in ("/robots.txt", "/apple/"):
            site.routes[path] = lambda request: Reply(b"", status)
    with pytest.raises(ScrapeError, match=f"nothing usable for 3 files in a row .HTTP {status}.; run the same command"):
        collect(rate=20, concurrency=1, patience=Patience(timeout=5, attempts=4, given_up=3))
    times = [served.at for served in site.log if served.status == status]
    assert len(times) == 12
    # The second and third address do not begin again with a short pause.
    for number, (at, later) in enumerate(pairwise(times)):
        assert 0.5 * min(60, 2**number) <= later - at <= min(60, 2**number)
    lines = [line for line in capsys.readouterr().err.splitlines() if "the next request is sent in" in line]
    assert len(lines) >= 8 and all(f"(HTTP {status})" in line for line in lines)


def test_refusals_of_requests_that_were_sent_together_are_one_pause() -> None:
    clock, patience = QuickClock(), Patience(first_pause=10, longest_pause=1000)
    client = Client(URL("http://site.example"), rate=0, concurrency=4, contact="x", patience=patience, clock=clock)

    def refusal(sent_at: float) -> FetchError:
        error = FetchError("HTTP 429", retryable=True, status=429)
        error.sent_at = sent_at
        return error

    for _ in range(4):
        client._pause(refusal(sent_at=0.0))
    after_one_burst = asyncio.run(client._rate_limit.turn())
    assert 5 <= after_one_burst <= 10
    client._pause(refusal(sent_at=after_one_burst))
    assert 10 <= asyncio.run(client._rate_limit.turn()) - after_one_burst <= 20


def test_a_long_pause_before_another_attempt_is_announced(
    collect: Collect, site: LocalSite, listed: list[Listed], clock: QuickClock, capsys: pytest.CaptureFixture[str]
) -> None:
    busy_once(site, listed[4].image, Reply(b"", 500))
    collect(concurrency=1, patience=Patience(timeout=2, first_pause=40, longest_pause=40))
    assert len(site.requested(listed[4].image)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "trying again" in line]
    assert line.split(": ", 1)[1].startswith("HTTP 500; trying again in ")


def test_a_long_delay_of_robots_txt_is_announced(
    collect: Collect, site: LocalSite, clock: QuickClock, capsys: pytest.CaptureFixture[str]
) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nCrawl-delay: 30\n")
    collect(limit=1, concurrency=1)
    assert capsys.readouterr().err.count("asks for 30 s between two requests.\n") == 1


def test_a_wait_past_all_patience_gives_one_picture_up(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str
) -> None:
    patience = Patience(timeout=2, first_pause=0.01, longest_wait=0.2)
    site.routes[listed[4].image] = lambda request: Reply(b"", 503, {"Retry-After": "99999999999"})
    collect(patience=patience)
    assert reasons(out, url) == {listed[4].image: "HTTP 503"}
    assert len(site.requested(listed[4].image)) == 1


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


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfUser-agent: *\nDisallow: /apple\n",
        "User-agent: *\nDisallow: /apple\n".encode("utf-16"),
        b"User-agent: *\rDisallow: /apple\r",
        b"User-Agent:*\r\nDISALLOW:/apple   # keep out\r\n",
        "User-agent:\u00a0*\nDisallow:\u00a0/apple\n".encode(),
        b"# rules\n\nuser-agent: googlebot\nuser-agent: *\nallow: /media\ndisallow: /appl*\n",
        b"User-agent: MLX-Genmoji\nDisallow: /apple/$\n\nUser-agent: *\nDisallow:\n",
    ],
)
def test_robots_txt_is_read_as_editors_write_it(collect: Collect, site: LocalSite, text: bytes) -> None:
    site.routes["/robots.txt"] = lambda request: Reply(text)
    with pytest.raises(ScrapeError, match=r"robots\.txt forbids it"):
        collect()
    assert not site.requested("/apple")


def test_rights_that_are_reserved_are_respected(collect: Collect, site: LocalSite, listed: list[Listed]) -> None:
    """The three ways of TDMRep: a header, a meta tag, and a file that says which paths."""
    picture = site.routes[listed[0].image]
    page = site.routes[listed[1].page]
    site.routes[listed[0].image] = lambda request: replace(picture(request), headers={"TDM-Reservation": "1"})

    def reserved(request: Request) -> Reply:
        reply = page(request)
        return replace(reply, body=b'<meta name="tdm-reservation" content="1">' + reply.body)

    site.routes[listed[1].page] = reserved
    rules = [{"location": listed[2].image, "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}, "no rule"]
    site.routes["/.well-known/tdmrep.json"] = lambda request: Reply(json.dumps(rules).encode())
    report = collect()
    assert report.images == len(listed) - 3 and not site.requested(listed[2].image)
    assert {reason for reason in report.failures if "tdm" in reason} == {
        "image: the site forbids this use (tdm-reservation: 1)",
        "page: the site forbids this use (meta robots: tdm-reservation)",
        "image: the site forbids this use (tdmrep.json)",
    }


def test_a_whole_site_may_be_reserved(collect: Collect, site: LocalSite) -> None:
    rules = [{"location": "/", "tdm-reservation": 1}]
    site.routes["/.well-known/tdmrep.json"] = lambda request: Reply(json.dumps(rules).encode())
    with pytest.raises(ScrapeError, match=r"tdmrep\.json"):
        collect()
    site.routes["/.well-known/tdmrep.json"] = lambda request: Reply(b"<html>not found</html>")
    assert collect().complete


def test_proxies_of_the_environment_are_asked(
    collect: Collect, site: LocalSite, url: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = LocalSite()
    with serve(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert collect().complete and not proxy.log
        with pytest.raises(ScrapeError):
            collect_emojigraph(
                out / "other", base_url="http://emojigraph.invalid", rate=0, patience=Patience(attempts=1)
            )
        assert [served.path for served in proxy.log][:1] == ["http://emojigraph.invalid/robots.txt"]

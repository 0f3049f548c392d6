"""A site that means ill, or is merely broken: a reason for each fault, nothing outside the folder, no crash."""

import gzip
import io
import json
import resource
import struct
import sys
import unicodedata
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from folders import Collect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_site import (
    SIGNATURE,
    Listed,
    LocalSite,
    Reply,
    bomb,
    chunk,
    emojis,
    gzip_bomb,
    html,
    list_page,
    png,
    write_emojibase,
)
from PIL import Image
from yarl import URL

from scrape import ScrapeError
from scrape.dataset import Form
from scrape.emojibase import HEXCODE
from scrape.emojigraph import CrawlReport, Patience, collect_emojigraph
from scrape.emojigraph.client import _retry_after
from scrape.emojigraph.fetch_error import FetchError
from scrape.emojigraph.images import draw
from scrape.emojigraph.pages import forbidding_meta, plain, read_list, read_page
from scrape.emojigraph.robots import FORBIDDING, Robots, forbidding_directive

PATIENCE = Patience(timeout=2.0, attempts=2, first_pause=0.01, longest_pause=0.02)
PNG = {"Content-Type": "image/png"}
HTML = {"Content-Type": "text/html"}
PAGE = URL("http://site.example/apple/")


@pytest.fixture
def listed() -> list[Listed]:
    return emojis(4)


@pytest.fixture
def collect(url: str, listed: list[Listed], tmp_path: Path) -> Collect:
    emojibase = write_emojibase(tmp_path / "emojibase", listed)

    def run(**options: Any) -> CrawlReport:
        return collect_emojigraph(
            tmp_path / "a" / "out", base_url=url, rate=0, size=32, emojibase=emojibase, patience=PATIENCE, **options
        )

    (tmp_path / "a").mkdir()
    return run


@pytest.fixture
def failures(tmp_path: Path, url: str) -> Callable[[], list[tuple[str, str]]]:
    def read() -> list[tuple[str, str]]:
        lines = (tmp_path / "a" / "out" / "failures.jsonl").read_text("ascii").splitlines()
        return [(fields["url"].removeprefix(url), fields["reason"]) for fields in map(json.loads, lines)]

    return read


def claiming(width: int, height: int) -> bytes:
    """A PNG that says it is large, and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NAMES = {
    "/media/apple/../../x.png": "no picture of an emoji, by its name",
    "/media/apple/..%2f..%2fx_1f600.png/../../..": "no picture of an emoji, by its name",
    "/media/apple/x_1f600\0.png": "no picture of an emoji, by its name",
    "/media/apple/x_..-1f600.png": "no picture of an emoji, by its name",
    "/media/apple/x_2f-2e-2e-2f.png/": "no picture of an emoji, by its name",
    "/media/apple/x_a.png": "its name holds no code points",
    "/media/apple/x_0.png": "its name holds no code points",
    "/media/apple/x_d800.png": "its name holds no code points",
    "/media/apple/x_1f600-20.png": "its name holds no code points",
    "/media/apple/x_110000.png": "its name holds no code points",
    "/media/apple/x_fe0f.png": "its name holds no code points",
    "/media/apple/x_200d-1f600.png": "its name holds no code points",
    "/media/apple/x_1f600-.png": "its name holds no code points",
    "/media/apple/x_" + "-".join(["1f600"] * 50) + ".png": "its name holds no code points",
    "/media/apple/" + "x" * 5000 + "_1f600.png": "an address of more than 2,000 characters",
    "/media/apple/\u202egnp.x_1f600.exe": "no picture of an emoji, by its name",
    "/media/google/x_1f600.png": "not a picture of the vendor's",
    "//elsewhere.example/media/apple/x_1f600.png": "on another site",
    "http://user:word@127.0.0.1:1/media/apple/x_1f600.png": "on another site",
    "file:///media/apple/x_1f600.png": "no address",
    "javascript:alert(1)": "no address",
    "http://[/media/apple/x_1f600.png": "no address",
    "": "no picture of an emoji, by its name",
}


def test_a_name_that_is_no_emojis_gets_its_reason_and_makes_no_file(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any], tmp_path: Path
) -> None:
    links = "".join(f'<a class=pim href="{name}"><img src="{name}"></a>' for name in NAMES)
    site.routes["/apple/"] = html(list_page(listed).replace("</div></div>", links + "</div></div>"))
    before = {path for path in tmp_path.rglob("*") if (tmp_path / "a") not in path.parents}
    assert collect().images == 4
    message = {plain(name.replace("\0", "\ufffd"), 200): reason for name, reason in NAMES.items()}
    assert dict(failures()) == message
    assert {path for path in tmp_path.rglob("*") if (tmp_path / "a") not in path.parents} == before
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    images = sorted(path.name for path in (tmp_path / "a" / "out" / "images").iterdir())
    assert images == sorted(f"{emoji.points.upper()}.png" for emoji in listed)


def test_a_second_picture_of_one_emoji_is_a_fault(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any]
) -> None:
    again = [*listed, listed[0], Listed("1f300-fe0f", "spelled-otherwise", png(9))]
    site.routes["/apple/"] = html(list_page(again))
    assert collect().images == 4
    ((_, reason),) = failures()
    assert reason == "a second picture of one emoji"


def redirect(location: str) -> Reply:
    return Reply(status=301, headers={"Location": location})


PICTURES = {
    "a body of more than 4,096 KiB": [
        Reply(b"x" * 1000, headers=PNG, length=1 << 30),
        Reply(gzip.compress(bytes(50 << 20)), headers={**PNG, "Content-Encoding": "gzip"}),
        Reply(bytes(5 << 20), headers=PNG),
    ],
    "a body that ends early or cannot be unpacked": [
        Reply(png(1), headers=PNG, sent=100),
        Reply(b"no gzip", headers={**PNG, "Content-Encoding": "gzip"}),
        Reply(gzip.compress(png(1))[:-20], headers={**PNG, "Content-Encoding": "gzip"}),
    ],
    "sent in an encoding that was not asked for": [Reply(png(1), headers={**PNG, "Content-Encoding": "br"})],
    "a picture of more than 4,194,304 pixels: a decompression bomb": [
        Reply(bomb(), headers=PNG),
        Reply(claiming(1 << 30, 1 << 30), headers=PNG),
        Reply(claiming(9000, 9000), headers=PNG),
    ],
    "a damaged or unfinished picture": [
        Reply(png(1)[:-1], headers=PNG),
        Reply(png(1)[:-12], headers=PNG),
        Reply(png(1)[:-12] + b"\0" * 12, headers=PNG),
        Reply(png(1)[:300], headers=PNG),
        Reply(png(1)[:500] + b"\0" + png(1)[501:], headers=PNG),
        Reply(claiming(16, 16), headers=PNG),
        Reply(claiming(0, 0), headers=PNG),
        Reply(SIGNATURE, headers=PNG),
    ],
    "no PNG, by its first bytes": [
        Reply(b"<!doctype html><title>Please wait</title>", headers=PNG),
        Reply(b"<svg xmlns='http://www.w3.org/2000/svg'/>", headers=PNG),
        Reply(b"", headers=PNG),
    ],
    "sent as text/html, not as image/png": [Reply(png(1), headers=HTML)],
    "sent as application/octet-stream, not as image/png": [Reply(png(1))],
    "redirected off the site, to 127.0.0.1": [
        redirect("http://127.0.0.1:1/x.png"),
        redirect("https://127.0.0.1/x.png"),
    ],
    "redirected off the site, to elsewhere.example": [redirect("//elsewhere.example/x.png")],
    "redirected off the site": [
        redirect("file:///etc/passwd"),
        redirect("javascript:alert(1)"),
    ],
    "redirected to what is no address": [redirect("http://["), redirect(""), redirect("/" + "x" * 3000)],
    "HTTP 304": [Reply(status=304)],
    "HTTP 206": [Reply(png(1), 206, PNG)],
    "HTTP 410": [Reply(b"", 410)],
    "HTTP 500": [Reply(b"", 500)],
    "no answer within 2 s": [Reply(png(1), headers=PNG, pause=5)],
    "no answer that can be read (ClientResponseError)": [
        Reply(png(1), headers={**PNG, "X-Long": "x" * 100_000}),
        Reply(png(1), headers={"Content-Type": "image/png\r\n: broken\r\n\x01"}),
    ],
    "no answer that can be read (ServerDisconnectedError)": [Reply(silent=True)],
}


@pytest.mark.parametrize(("reason", "reply"), [(reason, reply) for reason in PICTURES for reply in PICTURES[reason]])
def test_what_is_no_sound_picture_is_a_failure_with_its_reason(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any], reason: str, reply: Reply
) -> None:
    site.routes[listed[1].image] = lambda request: reply
    assert collect(descriptions=False).images == 3
    assert failures() == [(listed[1].image, reason)]
    assert len(site.requested(listed[1].image)) <= PATIENCE.attempts


def test_endless_redirects_end(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any]
) -> None:
    site.other = lambda request: redirect(f"{request.path}x")
    del site.routes[listed[1].image]
    assert collect(descriptions=False).images == 3
    assert failures() == [(listed[1].image, "redirected more than 5 times")]
    assert len(site.requested(listed[1].image)) == 6


def test_a_redirect_within_the_site_is_followed_if_robots_txt_allows_it(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any]
) -> None:
    site.routes["/moved.png"] = site.routes[listed[1].image]
    site.routes[listed[0].image] = lambda request: redirect("/admin/x.png")
    site.routes[listed[1].image] = lambda request: redirect("../../moved.png#here")
    assert collect(descriptions=False).images == 3
    assert failures() == [(listed[0].image, "robots.txt forbids it")]
    assert not site.requested("/admin")


def test_a_connection_that_breaks_is_asked_again_as_often_as_is_counted(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any]
) -> None:
    # Nothing at all is answered, on a connection that was kept from the request before.
    site.routes[listed[1].image] = lambda request: Reply(silent=True)
    report = collect(descriptions=False, concurrency=1)
    assert failures() == [(listed[1].image, "no answer that can be read (ServerDisconnectedError)")]
    assert len(site.requested(listed[1].image)) == PATIENCE.attempts
    assert report.requests == len(site.log)


PAGES = {
    "a body of more than 1,024 KiB": [
        Reply(b"x", headers=HTML, length=1 << 30),
        Reply(gzip_bomb(), headers={**HTML, "Content-Encoding": "gzip"}),
    ],
    "none of our selectors finds a description": [
        Reply(b"\xff\xfe\x00\x80" * 100, headers=HTML),
        Reply(b"<h1><p><<<>>><a <b <img src='''\"\" <!-- <![CDATA[ </p></h1", headers=HTML),
        Reply(b"<div>" * 2000, headers=HTML),
        Reply(b"", headers=HTML),
        Reply(b"<h1>x</h1><p>" + b"\0\xe2\x80\xae" * 100, headers=HTML),
    ],
    "sent as image/png, not as text/html": [Reply(png(1), headers=PNG)],
}


@pytest.mark.parametrize(("reason", "reply"), [(reason, reply) for reason in PAGES for reply in PAGES[reason]])
def test_what_is_no_page_of_an_emoji_is_a_failure_and_the_picture_is_kept(
    collect: Collect, site: LocalSite, listed: list[Listed], failures: Callable[[], Any], reason: str, reply: Reply
) -> None:
    site.routes[listed[1].page] = lambda request: reply
    assert collect().images == 4
    ((page, message),) = failures()
    assert page == listed[1].page and message.startswith(reason)


@pytest.mark.parametrize("reply", [reply for reason in PAGES for reply in PAGES[reason]])
def test_a_list_that_is_none_is_one_sentence(collect: Collect, site: LocalSite, reply: Reply, tmp_path: Path) -> None:
    site.routes["/apple/"] = lambda request: reply
    if reply.length is None and "gzip" not in reply.headers.get("Content-Encoding", ""):
        with pytest.raises(ScrapeError, match=r"/apple/ cannot be read: [^\n]*\.$"):
            collect()
    else:
        with pytest.raises(ScrapeError, match=r"a body of more than 8,192 KiB\.$"):
            collect()
    assert not (tmp_path / "a" / "out" / "metadata.jsonl").exists()


def test_markup_that_takes_a_parser_for_ever_is_given_up(
    collect: Collect,
    site: LocalSite,
    listed: list[Listed],
    failures: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nested so deep that the parser needs longer than anybody's patience, which is shortened here.
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE", Patience(timeout=0.5, attempts=1))
    site.routes[listed[1].page] = html("<div>" * 30_000)
    assert collect().images == 4
    assert failures() == [(listed[1].page, "a page that takes more than 0.5 s to read")]


def test_formatting_that_multiplies_stays_small() -> None:
    page = "<p>" + "".join(f"<b id={number} x='<'>" for number in range(4000)) + "<p>x" * 4000 + "<b " * 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_page("<h1>a</h1>" + page)
    # Elements for each pair of a <b> and a <p> would take gigabytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (100 << 10) * (
        1024 if sys.platform == "darwin" else 1
    )


def test_what_a_page_says_is_kept_as_one_plain_line(
    collect: Collect, site: LocalSite, listed: list[Listed], tmp_path: Path
) -> None:
    site.routes[listed[0].page] = html("<h1>x</h1><p>\u202eab\u2066c\x07\x1b[31m\r\n d\u200b \ud800 &#0;" + "e" * 9000)
    collect()
    row = json.loads((tmp_path / "a" / "out" / "metadata.jsonl").read_text("utf-8").splitlines()[0])
    assert row["description"].startswith("abc[31m d ") and len(row["description"]) == 5000
    assert row["description"].isprintable()


quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PIECES = (
    "<div id=category__first>|<div class='row cva'>|<a class=pim href='|<img src='|<img data-src=|'>|</a>|</div>|..|_|/"
    "|>|/media/apple/x_1f600.png|/media/72/apple/y_1f600-200d-2642.png|<h1>|<p>|<b>|<p class=emoji__copy>|&#x202e;|<!--"
    "|<svg>|<template>|http://|?#%|\0|\u202e|\x1b[31m"
).split("|")

markup = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=30).map("".join)


def is_plain(text: str, longest: int) -> bool:
    kinds = {unicodedata.category(char) for char in text if char != "\u200d"}
    return kinds.isdisjoint(("Cc", "Cf", "Cs", "Co", "Zl", "Zp")) and len(text) <= longest


@quick
@given(markup)
def test_fuzz_no_page_leads_anywhere_but_to_the_site(page: str) -> None:
    text = page.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    listing = read_list(text, PAGE, "apple")
    for item in listing.items:
        assert HEXCODE.fullmatch(item.hexcode)
        assert item.image_url.startswith("http://site.example/") and item.image_url.isascii()
        assert item.page_url is None or item.page_url.startswith("http://site.example/")
    for message, reason in listing.faults:
        assert is_plain(message, 200) and reason
    assert forbidding_meta(text) is None
    about = read_page(text)
    assert is_plain(about.description, 5000) and is_plain(about.name, 200)


@quick
@given(
    st.text(st.sampled_from("/._-%0123456789abcdefx?#\\\0\u202e:@"), max_size=40),
    st.sampled_from(["/media/apple/{}_1f600.png", "/media/apple/x_{}.png", "/media/{}/x_1f600.png", "{}"]),
)
def test_fuzz_every_name_is_code_points_or_a_fault(name: str, template: str) -> None:
    address = template.format(name).replace("'", "")
    listing = read_list(f"<div id=category__first><a href='/x/'><img src='{address}'></a></div>", PAGE, "apple")
    assert len(listing.items) + len(listing.faults) == 1
    for item in listing.items:
        assert HEXCODE.fullmatch(item.hexcode) and len(item.hexcode) <= 112
        assert item.image_url.startswith("http://site.example/") and "/apple/" in item.image_url


GOOD = png(3)


@quick
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    st.booleans(),
)
def test_fuzz_a_damaged_picture_is_drawn_or_a_fault(changes: list[tuple[int, bytes]], sound: bool) -> None:
    data = bytearray(GOOD)
    for place, patch in changes:
        data[place : place + len(patch)] = patch
    if sound:
        data = bytearray(with_sums(bytes(data)))
    try:
        drawn = draw(bytes(data), Form(16))
    except FetchError:
        return
    with Image.open(io.BytesIO(drawn.png)) as picture:
        assert picture.size == (16, 16)


def with_sums(data: bytes) -> bytes:
    """A damaged PNG whose checksums are right, so that what checks them lets it pass."""
    result, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        result += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return result


@quick
@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,9} \d\d:\d\d:\d\d( [A-Z+0-9]{1,6})?"),
    )
)
def test_fuzz_any_retry_after_is_some_seconds(text: str) -> None:
    assert _retry_after(text, datetime.now(UTC)) >= 0


@quick
@given(
    st.text(max_size=200),
    st.lists(st.sampled_from(["User-agent: *", "Disallow: /", "Crawl-delay: ", "Request-rate: "]), max_size=6),
)
def test_fuzz_any_robots_txt_is_rules_or_one_sentence(text: str, rules: list[str]) -> None:
    try:
        robots = Robots("\n".join(f"{rule}{text}" for rule in rules) + f"\n{text}")
    except ScrapeError:
        return
    assert 0 <= robots.delay <= 600
    assert robots.allow("http://site.example/apple/") in (True, False)
    assert forbidding_directive(text) in (None, *FORBIDDING)

"""What the crawler makes of a site like emojigraph.org, on this machine, that is at fault now and then."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from local_site import (
    Listed,
    LocalSite,
    Reply,
    emoji_page,
    emoji_site,
    emojis,
    file,
    html,
    list_page,
    most_in,
    png,
    serve,
    spoil,
    write_emojibase,
)
from PIL import Image

from app import cli
from scrape import CrawlReport, ScrapeError, collect_emojigraph, merge, summarize
from scrape.emojigraph import Patience

SIZE = 32
PATIENCE = Patience(timeout=2.0, attempts=4, first_pause=0.01, longest_pause=0.1, longest_wait=3.0)

Collect = Callable[..., CrawlReport]


@pytest.fixture
def listed() -> list[Listed]:
    return emojis(12)


@pytest.fixture
def site(listed: list[Listed]) -> LocalSite:
    return emoji_site(listed)


@pytest.fixture
def url(site: LocalSite) -> Iterator[str]:
    with serve(site) as address:
        yield address


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def collect(url: str, listed: list[Listed], out: Path, tmp_path: Path) -> Collect:
    emojibase = write_emojibase(tmp_path / "emojibase", listed)

    def run(**options: Any) -> CrawlReport:
        defaults = {"rate": 0.0, "concurrency": 8, "size": SIZE, "patience": PATIENCE}
        return collect_emojigraph(out, base_url=url, emojibase=emojibase, **{**defaults, **options})

    return run


def dataset(folder: Path) -> dict[str, bytes]:
    """All of a dataset but what is about the fetching."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("crawl.sqlite"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {fields["hexcode"]: fields for fields in lines(folder / "metadata.jsonl")}


def reasons(folder: Path, url: str) -> dict[str, str]:
    return {fields["url"].removeprefix(url): fields["reason"] for fields in lines(folder / "failures.jsonl")}


def test_a_row_says_what_the_picture_shows_and_where_it_is_from(
    collect: Collect, listed: list[Listed], out: Path, url: str
) -> None:
    report = collect()
    assert (report.complete, report.images, report.requests) == (True, 12, 2 + 2 * 12)
    assert rows(out)["1F301-1F3FC"] == {
        "file_name": "images/1F301-1F3FC.png",
        "text": "thing 1, medium-light skin tone",
        "label": "thing 1",
        "description": "What thing 1 tone 2 means & is for.",
        "emoji": "\U0001f301\U0001f3fc",
        "hexcode": "1F301-1F3FC",
        "base_hexcode": "1F301",
        "tags": [],
        "group": "people-body",
        "subgroup": "hands",
        "skin_tone": ["medium-light"],
        "person_type": None,
        "source": "emojigraph",
        "license": "Apple, all rights reserved (not for redistribution)",
        "width": SIZE,
        "height": SIZE,
        "sha256": hashlib.sha256(listed[8].picture).hexdigest(),
        "png_sha256": hashlib.sha256((out / "images" / "1F301-1F3FC.png").read_bytes()).hexdigest(),
        "source_file": "thing-1-tone-2_1f301-1f3fc.png",
        "vendor": "apple",
        "source_url": f"{url}/media/apple/thing-1-tone-2_1f301-1f3fc.png",
        "page_url": f"{url}/thing-1-tone-2/",
    }
    assert sorted(path.name for path in out.iterdir()) == ["crawl.sqlite", "images", "metadata.jsonl"]


def test_load_dataset_reads_it_with_and_without_originals(collect: Collect, out: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    for keep_originals in (False, True):
        collect(keep_originals=keep_originals)
        read = load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert {row["hexcode"]: row["text"] for row in read} == {name: row["text"] for name, row in rows(out).items()}
        assert all(row["image"].size == (SIZE, SIZE) for row in read)


def test_it_merges_and_is_counted_as_any_dataset(collect: Collect, out: Path, tmp_path: Path) -> None:
    collect(margin=0.1)
    assert merge([out], tmp_path / "merged").images == 12
    summary = summarize(tmp_path / "merged")
    assert summary.sources == {("emojigraph", "Apple, all rights reserved (not for redistribution)"): 12}
    assert {tone: count for (_, tone), count in summary.people.items()} == {
        "no tone": 2,
        **dict.fromkeys(("light", "medium-light", "medium", "medium-dark", "dark"), 2),
    }


def test_pictures_are_drawn_on_white_and_originals_kept_on_request(
    collect: Collect, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True, size=40)
    for emoji in listed:
        name = f"{emoji.points.upper()}.png"
        assert (out / "originals" / name).read_bytes() == emoji.picture
        with Image.open(out / "images" / name) as drawn, Image.open(io.BytesIO(emoji.picture)) as original:
            assert (drawn.mode, drawn.size) == ("RGB", (40, 40))
            assert original.mode == "RGBA"


def test_a_faulty_site_gives_all_that_is_good_and_a_reason_for_all_that_is_not(tmp_path: Path, out: Path) -> None:
    listed = emojis(120)
    site = emoji_site(listed, seed=5)
    bad = spoil(site, listed)
    emojibase = write_emojibase(tmp_path / "emojibase", listed)
    with serve(site) as url:
        report = collect_emojigraph(
            out,
            base_url=url,
            rate=0,
            concurrency=16,
            size=SIZE,
            keep_originals=True,
            emojibase=emojibase,
            patience=PATIENCE,
        )
    good = {emoji.points.upper(): emoji for emoji in listed if emoji.image not in bad}
    assert {name: row["sha256"] for name, row in rows(out).items()} == {
        name: hashlib.sha256(emoji.picture).hexdigest() for name, emoji in good.items()
    }
    assert {name: row["description"] for name, row in rows(out).items()} == {
        name: emoji.description for name, emoji in good.items()
    }
    assert all((out / "originals" / f"{name}.png").read_bytes() == emoji.picture for name, emoji in good.items())
    assert reasons(out, url) == bad
    assert not report.complete and report.failures == {f"image: {reason}": 1 for reason in bad.values()}
    # The faults of this seed are of every kind, and nothing but a fault was asked for again.
    faults = [served for served in site.log if served.faulty]
    assert {served.status for served in faults} == {200, 503}
    assert len(site.log) == report.requests == 2 + len(listed) * 2 + len(faults)


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


def test_a_second_run_of_an_unchanged_site_transfers_no_body(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    first = dataset(out)
    site.reset()
    report = collect()
    asked = [served for served in site.log if served.path != "/robots.txt"]
    assert Counter(served.status for served in asked) == {304: 25}
    assert sum(served.body for served in asked) == 0
    assert (report.images, report.complete, dataset(out)) == (12, True, first)


def test_a_picture_that_changed_is_fetched_again_and_no_other(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True)
    before = dataset(out)
    changed = listed[3]
    site.routes[changed.image] = file(png(1000))
    site.reset()
    collect(keep_originals=True)
    assert [served.path for served in site.asked("/media/") if served.status == 200] == [changed.image]
    name = changed.points.upper()
    assert {file for file, data in dataset(out).items() if before[file] != data} == {
        "metadata.jsonl",
        f"images/{name}.png",
        f"originals/{name}.png",
    }
    assert rows(out)[name]["sha256"] == hashlib.sha256(png(1000)).hexdigest()


def test_pictures_without_validators_are_fetched_again_to_the_same_dataset(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    for emoji in listed:
        site.routes[emoji.image] = file(emoji.picture, validators=False)
    collect()
    first = dataset(out)
    site.reset()
    collect()
    assert [served.status for served in site.asked("/media/")] == [200] * 12
    assert dataset(out) == first


def test_another_form_is_drawn_anew(collect: Collect, site: LocalSite, out: Path) -> None:
    collect(margin=0.0)
    before = dataset(out)
    assert collect(margin=0.25).complete
    with Image.open(out / "images" / "1F300.png") as drawn:
        assert {drawn.getpixel((x, y)) for x in range(SIZE) for y in range(SIZE // 4)} == {(255, 255, 255)}
    collect(margin=0.0)
    assert dataset(out) == before


def test_a_picture_that_was_damaged_here_is_fetched_whole(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    first = dataset(out)
    (out / "images" / "1F300.png").write_bytes(b"damaged")
    (out / "images" / "1F301.png").unlink()
    site.reset()
    collect()
    assert sorted(served.path for served in site.asked("/media/") if served.status == 200) == [
        "/media/apple/thing-0_1f300.png",
        "/media/apple/thing-1_1f301.png",
    ]
    assert dataset(out) == first


def test_what_the_list_no_longer_shows_leaves_the_dataset(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True)
    (out / "images" / "mine.png").write_bytes(b"the user's")
    site.routes["/apple/"] = file(list_page(listed[1:]).encode(), "text/html")
    assert collect(keep_originals=True).images == 11
    assert "1F300" not in rows(out)
    assert {"images/1F300.png", "originals/1F300.png"}.isdisjoint(dataset(out))
    assert "images/mine.png" in dataset(out)


def test_a_picture_that_fails_later_stays_as_it_was(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str
) -> None:
    collect()
    before = rows(out)
    del site.routes[listed[0].image]
    report = collect()
    assert not report.complete and rows(out) == before
    assert reasons(out, url) == {listed[0].image: "HTTP 404"}


def test_what_failed_is_tried_again_by_the_next_run(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    route = site.routes.pop(listed[0].image)
    assert collect().images == 11
    site.routes[listed[0].image] = route
    report = collect()
    assert report.complete and report.images == 12 and not (out / "failures.jsonl").exists()


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


def test_a_site_that_is_down_stops_the_crawl_which_goes_on_later(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    up, patience = dict(site.routes), Patience(timeout=2, attempts=2, first_pause=0.01, given_up=5)

    def down(request: Any) -> Reply:
        return Reply(b"", 503)

    for emoji in listed[4:]:
        site.routes[emoji.image] = site.routes[emoji.page] = down
    with pytest.raises(ScrapeError, match=r"nothing usable for 5 files in a row \(HTTP 503\); run the same command"):
        collect(patience=patience, concurrency=1)
    assert not (out / "metadata.jsonl").exists()
    site.routes = up
    site.reset()
    report = collect()
    assert report.complete and report.images == 12
    assert not site.asked("/apple/") and len(site.asked("/media/")) == 8


def test_a_limit_collects_the_beginning_and_loses_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    assert collect(limit=3).images == 3
    assert list(rows(out)) == ["1F300", "1F300-1F3FB", "1F300-1F3FC"]
    site.reset()
    assert collect().images == 12
    assert Counter(served.status for served in site.asked("/media/")) == {304: 3, 200: 9}
    assert collect(limit=3).images == 12


def test_a_first_look_at_another_size_loses_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    before = dataset(out)
    assert collect(size=64, limit=3).images == 3
    assert {row["width"] for row in rows(out).values()} == {64}
    site.reset()
    collect()
    assert Counter(served.status for served in site.asked("/media/")) == {304: 9, 200: 3}
    assert dataset(out) == before


def test_without_descriptions_no_page_is_asked_for(collect: Collect, site: LocalSite, out: Path) -> None:
    report = collect(descriptions=False)
    assert (report.requests, len(site.log), len(site.asked("/thing"))) == (14, 14, 0)
    assert {row["description"] for row in rows(out).values()} == {""}


def test_a_dry_run_reads_the_list_and_writes_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    report = collect(dry_run=True, rate=50.0)
    assert [served.path for served in site.log] == ["/robots.txt", "/apple/"]
    assert "12 images to collect, 24 requests, at least 1 min" in str(report)
    assert not out.exists()


def test_an_emoji_that_emojibase_does_not_know_is_named_by_the_site(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    new = [
        Listed("1fae9-200d-2640-fe0f", "brand-new", png(500)),
        Listed("1f468-200d-1fae9", "new-man", png(501)),
        Listed("1f301-1f3fb-1f3ff", "two-things", png(502)),
    ]
    site.routes["/apple/"] = file(list_page(listed + new).encode(), "text/html")
    for emoji in new:
        site.routes[emoji.image], site.routes[emoji.page] = file(emoji.picture), html(emoji_page(emoji))
    assert collect().images == 15
    found = rows(out)
    assert list(found)[6:8] == ["1F301", "1F301-1F3FB-1F3FF"]
    assert list(found)[-2:] == ["1F468-200D-1FAE9", "1FAE9-200D-2640-FE0F"]
    woman, man, two = (found[name] for name in ("1FAE9-200D-2640-FE0F", "1F468-200D-1FAE9", "1F301-1F3FB-1F3FF"))
    assert (woman["label"], woman["person_type"], woman["group"]) == ("brand new", "woman", None)
    assert (man["label"], man["person_type"], man["skin_tone"]) == ("new man", "man", [])
    assert (two["label"], two["skin_tone"], two["base_hexcode"]) == ("thing 1", ["light", "dark"], "1F301")
    assert two["text"] == "thing 1, light and dark skin tones"


@pytest.mark.parametrize(
    "page",
    [
        "<div id=category__first><div class='row cva'><a class=pim href=/thing-0/><img src={0}></a></div></div>",
        "<div id=category__first><p><a href=/apple/thing-0/><b><img data-src=..{0} src=/spinner.gif></b></a></p></div>",
        "<div id=category__first><div class='row cva'><a class=pim href=/><img src=/logo.png></a></div></div>"
        "<a href=/thing-0/><img src=/media/apple/thing-0_1f300.png></a>",
        "<a href=/thing-0><u><img src=/media/144/apple/thing-0_1f300.png></u></a><a href=/><img src=/logo.png></a>",
    ],
)
def test_several_layouts_of_a_list_are_understood(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str, page: str
) -> None:
    site.routes["/apple/"] = html(page.format(listed[0].image))
    report = collect()
    assert report.complete, report
    (row,) = rows(out).values()
    assert (row["source_url"], row["page_url"]) == (url + listed[0].image, f"{url}/thing-0/")
    assert row["description"] == listed[0].description


@pytest.mark.parametrize(
    "page",
    [
        "<div class=emoji__copy>x</div><h2>y</h2><p> <p>It means\n this.",
        "<h1 class=emoji__title>x</h1><p>It means this.</p>",
        "<h1>x</h1><p>It means <b>this</b>.</p>",
        "<section itemprop=description>It means <i>th</i>is.</section>",
    ],
)
def test_several_layouts_of_an_emojis_page_are_understood(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, page: str
) -> None:
    for emoji in listed:
        site.routes[emoji.page] = html(page)
    assert collect().complete
    assert {row["description"] for row in rows(out).values()} == {"It means this."}


def test_a_list_that_no_selector_fits_is_reported_as_such(collect: Collect, site: LocalSite) -> None:
    site.routes["/apple/"] = html("<p>We have a new design</p>")
    with pytest.raises(
        ScrapeError, match=r"none of our selectors finds a picture there \(#category__first.*may have changed"
    ):
        collect()


def test_a_page_that_no_selector_fits_is_reported_and_its_picture_kept(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str
) -> None:
    site.routes[listed[2].page] = html("<article>something else</article>")
    report = collect()
    assert report.images == 12 and not report.complete
    (reason,) = reasons(out, url).values()
    assert reason.startswith("none of our selectors finds a description (.emoji__copy ~ p, ")


def test_one_folder_holds_one_vendor_of_one_site(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    with pytest.raises(ScrapeError, match=r"holds apple of http.*; choose another folder"):
        collect(vendor="google")


def test_a_folder_with_another_dataset_is_left_alone(collect: Collect, site: LocalSite, out: Path) -> None:
    out.mkdir()
    (out / "metadata.jsonl").write_text("{}\n")
    with pytest.raises(ScrapeError, match="already holds another dataset"):
        collect()
    assert [path.name for path in out.iterdir()] == ["metadata.jsonl"] and not site.log


def test_two_crawls_do_not_write_to_one_folder(collect: Collect, out: Path, url: str) -> None:
    from scrape.emojigraph.state import State

    out.mkdir()
    with State(out / "crawl.sqlite", url, "apple"), pytest.raises(ScrapeError, match="does another crawl write to"):
        collect()


def test_a_state_file_that_is_none_is_one_sentence(collect: Collect, out: Path) -> None:
    out.mkdir()
    (out / "crawl.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(ScrapeError, match=r"crawl\.sqlite cannot be used"):
        collect()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vendor": "../apple"}, "is no vendor's name"),
        ({"vendor": ""}, "is no vendor's name"),
        ({"rate": -1.0}, "cannot be kept"),
        ({"rate": float("nan")}, "cannot be kept"),
        ({"concurrency": 0}, "not between 1 and 64"),
        ({"limit": 0}, "nothing to collect"),
        ({"size": 1}, "not between 16 and 2048"),
        ({"contact": "me\r\nX-Evil: 1"}, "A contact is"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    collect: Collect, site: LocalSite, out: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ScrapeError, match=said):
        collect(**options)
    assert not site.log and not out.exists()


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "emojigraph.org",
        "ftp://a.b",
        "http://",
        "http://a.b/c",
        "http://u:p@a.b",
        "http://a:b",
        "http://a.b?c",
        "http://[a",
    ],
)
def test_what_is_no_site_is_one_sentence(out: Path, base_url: str) -> None:
    with pytest.raises(ScrapeError, match="address"):
        collect_emojigraph(out, base_url=base_url)
    assert not out.exists()


def test_the_command_tells_complete_from_partial(
    site: LocalSite, url: str, listed: list[Listed], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emojibase = write_emojibase(tmp_path / "emojibase", listed)
    command = ["scrape", "emojigraph", "-o", str(out), "--base-url", url, "--rate", "0", "--concurrency", "8"]
    command += ["--emojibase", str(emojibase), "--size", "32", "--keep-originals"]
    assert cli.main(command) == 0
    assert f"apple: 12 images in {out}, 26 requests" in capsys.readouterr().out
    del site.routes[listed[0].image]
    assert cli.main(command) == 3
    assert "1 failed: image: HTTP 404" in capsys.readouterr().out
    assert cli.main([*command, "--vendor", "nobody"]) == 2
    assert cli.main([*command, "--no-descriptions", "--limit", "1", "--dry-run"]) == 0
    assert "1 images to collect, 1 requests" in capsys.readouterr().out


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scrape", "emojigraph", "--help"]) == 0
    assert "3: something failed" in " ".join(capsys.readouterr().out.split())

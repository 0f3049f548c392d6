"""What a later run asks for, and what it does to the dataset that is there."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from folders import PATIENCE, SIZE, Collect, dataset, reasons, rows
from local_site import (
    Listed,
    LocalSite,
    Reply,
    emojis,
    file,
    list_page,
    png,
)
from PIL import Image

from mlx_genmoji.dataset import read_rows
from scrape import ScrapeError
from scrape.dataset import NEW


def test_a_second_run_of_an_unchanged_site_transfers_no_body(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    first = dataset(out)
    site.reset()
    report = collect()
    requested = [served for served in site.log if served.path not in ("/robots.txt", "/.well-known/tdmrep.json")]
    assert Counter(served.status for served in requested) == {304: 25}
    assert sum(served.body for served in requested) == 0
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
    assert [served.path for served in site.requested("/media/") if served.status == 200] == [changed.image]
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
    assert [served.status for served in site.requested("/media/")] == [200] * 12
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
    assert sorted(served.path for served in site.requested("/media/") if served.status == 200) == [
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


def test_a_list_that_is_short_for_once_changes_nothing(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True)
    before, whole = dataset(out), site.routes["/apple/"]
    site.routes["/apple/"] = file(list_page(listed[:3]).encode(), "text/html")
    for _ in range(2):
        site.reset()
        with pytest.raises(ScrapeError, match=r"lists only 3 of the 12 .*; nothing was changed\. .*--accept-fewer"):
            collect(keep_originals=True)
        assert dataset(out) == before and not site.requested("/media/")
    site.routes["/apple/"] = whole
    site.reset()
    assert collect(keep_originals=True).complete and dataset(out) == before
    assert not [served for served in site.requested("/media/") if served.status == 200]


def test_a_list_that_stays_short_is_accepted_on_request(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True)
    site.routes["/apple/"] = file(list_page(listed[:3]).encode(), "text/html")
    with pytest.raises(ScrapeError, match="lists only 3 of the 12"):
        collect(keep_originals=True)
    assert collect(keep_originals=True, accept_fewer=True).images == 3
    assert len(list((out / "images").iterdir())) == len(list((out / "originals").iterdir())) == len(rows(out)) == 3


def test_a_list_of_other_emoji_is_refused_like_a_short_one(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    before, others = dataset(out), emojis(30)[12:]
    site.routes |= {emoji.image: file(emoji.picture) for emoji in others}
    site.routes["/apple/"] = file(list_page(others).encode(), "text/html")
    with pytest.raises(ScrapeError, match="lists only 0 of the 12"):
        collect(descriptions=False)
    assert dataset(out) == before


def test_a_renewal_that_stops_midway_leaves_the_old_dataset(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    collect(keep_originals=True)
    before, up = dataset(out), dict(site.routes)
    up[listed[0].image] = site.routes[listed[0].image] = file(png(1000))
    for emoji in listed[4:]:
        site.routes[emoji.image] = site.routes[emoji.page] = lambda request: Reply(b"", 500)
    with pytest.raises(ScrapeError, match="nothing usable for 5 files in a row"):
        collect(keep_originals=True, patience=replace(PATIENCE, attempts=2, given_up=5), concurrency=1)
    assert {name: data for name, data in dataset(out).items() if not name.startswith(NEW)} == before
    assert read_rows(out)
    site.routes = up
    site.reset()
    collect(keep_originals=True)
    # The picture that changed was fetched by the run that stopped.
    assert not site.requested(listed[0].image)
    assert rows(out)[listed[0].points.upper()]["sha256"] == hashlib.sha256(png(1000)).hexdigest()
    assert not (out / NEW).exists()


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


def test_a_site_that_is_down_stops_the_crawl_which_goes_on_later(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    up, patience = dict(site.routes), replace(PATIENCE, attempts=2, given_up=5)

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
    assert not site.requested("/apple/") and len(site.requested("/media/")) == 8


def test_a_limit_collects_the_beginning_and_loses_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    assert collect(limit=3).images == 3
    assert list(rows(out)) == ["1F300", "1F300-1F3FB", "1F300-1F3FC"]
    site.reset()
    assert collect().images == 12
    assert Counter(served.status for served in site.requested("/media/")) == {304: 3, 200: 9}
    assert collect(limit=3).images == 12


def test_a_first_look_at_another_size_loses_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    collect()
    before = dataset(out)
    assert collect(size=64, limit=3).images == 3
    assert {row["width"] for row in rows(out).values()} == {64}
    site.reset()
    collect()
    assert Counter(served.status for served in site.requested("/media/")) == {304: 9, 200: 3}
    assert dataset(out) == before

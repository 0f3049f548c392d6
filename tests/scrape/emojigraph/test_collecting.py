"""What the crawler makes of a site like emojigraph.org, on this machine, that is at fault now and then."""

import hashlib
import io
from pathlib import Path

from folders import PATIENCE, SIZE, Collect, reasons, rows
from local_site import (
    Listed,
    LocalSite,
    emoji_site,
    emojis,
    serve,
    spoil,
    write_emojibase,
)
from PIL import Image

from scrape import collect_emojigraph, merge, summarize


def test_a_row_says_what_the_picture_shows_and_where_it_is_from(
    collect: Collect, listed: list[Listed], out: Path, url: str
) -> None:
    report = collect()
    assert (report.complete, report.images, report.requests) == (True, 12, 3 + 2 * 12)
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
    assert len(site.log) == report.requests == 3 + len(listed) * 2 + len(faults)


def test_without_descriptions_no_page_is_asked_for(collect: Collect, site: LocalSite, out: Path) -> None:
    report = collect(descriptions=False)
    assert (report.requests, len(site.log), len(site.requested("/thing"))) == (15, 15, 0)
    assert {row["description"] for row in rows(out).values()} == {""}


def test_a_dry_run_reads_the_list_and_writes_nothing(collect: Collect, site: LocalSite, out: Path) -> None:
    report = collect(dry_run=True, rate=50.0)
    assert [served.path for served in site.log] == ["/robots.txt", "/.well-known/tdmrep.json", "/apple/"]
    assert "12 images to collect, 24 requests, at least 1 min" in str(report)
    assert not out.exists()

"""What a user may get wrong, and what the command says."""

from pathlib import Path
from typing import Any

import pytest
from folders import Collect
from local_site import (
    Listed,
    LocalSite,
    file,
    list_page,
    write_emojibase,
)

from app import cli
from scrape import ScrapeError, collect_emojigraph


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
    from scrape.emojigraph.crawl_state import CrawlState

    out.mkdir()
    with (
        CrawlState(out / "crawl.sqlite", url, "apple"),
        pytest.raises(ScrapeError, match="does another crawl write to"),
    ):
        collect()


def test_a_state_file_that_is_none_is_one_sentence(collect: Collect, out: Path) -> None:
    out.mkdir()
    (out / "crawl.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(ScrapeError, match=r"crawl\.sqlite cannot be used"):
        collect()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vendor": "../apple"}, "is not the name of a vendor"),
        ({"vendor": ""}, "is not the name of a vendor"),
        ({"rate": -1.0}, "is not possible"),
        ({"rate": float("nan")}, "is not possible"),
        ({"concurrency": 0}, "not between 1 and 64"),
        ({"limit": 0}, "is less than 1"),
        ({"size": 1}, "not between 16 and 2048"),
        ({"contact": "me\r\nX-Evil: 1"}, "The contact must be"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    collect: Collect, site: LocalSite, out: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScrapeError, match=message):
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
    assert f"apple: 12 images in {out}, 27 requests" in capsys.readouterr().out
    del site.routes[listed[0].image]
    assert cli.main(command) == 3
    assert "1 failed: image: HTTP 404" in capsys.readouterr().out
    assert cli.main([*command, "--vendor", "nobody"]) == 2
    site.routes["/apple/"] = file(list_page(listed[1:3]).encode(), "text/html")
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "lists only 2 of the 12 pictures" in capsys.readouterr().err
    assert cli.main([*command, "--accept-fewer"]) == 0
    assert "apple: 2 images" in capsys.readouterr().out
    assert cli.main([*command, "--no-descriptions", "--limit", "1", "--dry-run"]) == 0
    assert "1 images to collect, 1 requests" in capsys.readouterr().out


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scrape", "emojigraph", "--help"]) == 0
    assert "3, some pictures failed" in " ".join(capsys.readouterr().out.split())

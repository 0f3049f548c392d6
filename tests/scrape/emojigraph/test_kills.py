"""A crawl that is killed, interrupted, and run again."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from folders import dataset
from local_site import Listed, LocalSite, emoji_site, emojis, serve, spoil, write_emojibase

from scrape.dataset import NEW

CONCURRENCY = 4

CRAWL = """
import sys
from functools import partial
import scrape
from app import cli
from scrape.emojigraph import Patience, collect_emojigraph
scrape.collect_emojigraph = partial(
    collect_emojigraph, patience=Patience(timeout=2, attempts=4, first_pause=0.01, longest_pause=0.1)
)
sys.exit(cli.main(sys.argv[1:]))
"""


def crawl(folder: Path, url: str, emojibase: Path) -> subprocess.Popen[bytes]:
    options = ["--rate", "0", "--concurrency", str(CONCURRENCY), "--size", "32", "--emojibase", str(emojibase)]
    command = [sys.executable, "-c", CRAWL, "scrape", "emojigraph", "-o", str(folder), "--base-url", url, *options]
    # Where the tests run in the background, Ctrl-C is ignored, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_until_asked(site: LocalSite, requests: int) -> None:
    with site.served:
        assert site.served.wait_for(lambda: len(site.log) >= requests, timeout=120)


@pytest.fixture
def listed() -> list[Listed]:
    return emojis(60)


def test_killed_three_times_a_crawl_ends_as_an_undisturbed_one(listed: list[Listed], tmp_path: Path) -> None:
    site = emoji_site(listed, seed=5, delay=0.01)
    spoil(site, listed)
    emojibase = write_emojibase(tmp_path / "emojibase", listed)
    chance = random.Random(1)
    with serve(site) as url:
        assert crawl(tmp_path / "calm", url, emojibase).wait(120) == 3
        site.reset()
        for _ in range(3):
            wanted = len(site.log) + chance.randint(10, 35)
            process = crawl(tmp_path / "killed", url, emojibase)
            wait_until_asked(site, wanted)
            process.kill()
            assert process.wait(120) == -signal.SIGKILL
            assert not (tmp_path / "killed" / "metadata.jsonl").exists()
        assert crawl(tmp_path / "killed", url, emojibase).wait(120) == 3
    assert dataset(tmp_path / "killed") == dataset(tmp_path / "calm")
    assert len(json.loads(dataset(tmp_path / "calm")["failures.jsonl"].splitlines()[0])) == 3
    requested = Counter(served.path for served in site.log if not served.faulty)
    assert requested.pop("/robots.txt") == 4 and requested.pop("/.well-known/tdmrep.json") == 4
    assert sum(times - 1 for times in requested.values()) <= 3 * CONCURRENCY
    assert requested["/apple/"] == 1 and len(requested) == 1 + 2 * len(listed)


def test_a_renewal_that_is_killed_ends_as_an_undisturbed_one(listed: list[Listed], tmp_path: Path) -> None:
    site = emoji_site(listed, delay=0.01)
    later = emojis(60, size=48)
    emojibase = write_emojibase(tmp_path / "emojibase", listed)
    with serve(site) as url:
        for name in ("calm", "killed"):
            assert crawl(tmp_path / name, url, emojibase).wait(120) == 0
        first = dataset(tmp_path / "killed")
        site.routes = emoji_site(later).routes
        assert crawl(tmp_path / "calm", url, emojibase).wait(120) == 0
        site.reset()
        process = crawl(tmp_path / "killed", url, emojibase)
        wait_until_asked(site, 60)
        process.kill()
        process.wait(120)
        assert {name: data for name, data in dataset(tmp_path / "killed").items() if not name.startswith(NEW)} == first
        assert crawl(tmp_path / "killed", url, emojibase).wait(120) == 0
    assert dataset(tmp_path / "killed") == dataset(tmp_path / "calm")
    pictures = Counter(served.path for served in site.requested("/media/"))
    assert len(pictures) == 60 and pictures.total() <= 60 + CONCURRENCY


def test_ctrl_c_stops_in_one_line_and_the_next_run_goes_on(listed: list[Listed], tmp_path: Path) -> None:
    site = emoji_site(listed, delay=0.1)
    emojibase = write_emojibase(tmp_path / "emojibase", listed)
    with serve(site) as url:
        process = crawl(tmp_path / "out", url, emojibase)
        wait_until_asked(site, 40)
        # What is left takes so long that the signal comes in time on a busy machine too; patience ends after 2 seconds.
        site.delay = 1
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert errors.decode().strip().endswith("genmoji: stopped.") and b"Traceback" not in errors
        site.delay = 0
        assert crawl(tmp_path / "out", url, emojibase).wait(120) == 0
    requested = Counter(served.path for served in site.log)
    assert requested.pop("/robots.txt") == 2 and requested.pop("/.well-known/tdmrep.json") == 2
    assert requested.total() <= 1 + 2 * len(listed) + CONCURRENCY

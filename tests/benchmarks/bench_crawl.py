"""Measures the crawler at full size, on a site of 3,770 emoji that runs in a process on this machine.

It is crawled without and with faults: 5 % of addresses answer with 503, 2 % are cut off, 1 % are HTML, 1 % stall; one
redirects to another site and one is a decompression bomb. All figures come from the site's log or the dataset's bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from row import Row

SITE = Path(__file__).parents[1] / "scrape" / "emojigraph"
sys.path.insert(0, str(SITE))

from local_site import Listed, LocalSite, Served, emojis, most_in, spoil, write_emojibase  # noqa: E402

from scrape.dataset import Form  # noqa: E402
from scrape.emojigraph.images import draw  # noqa: E402

COUNT = 3770
SERIAL = 100
RATE = 100.0
CONCURRENCY = 16
DELAY_S = 0.1

CRAWL = """
import json, resource, sys
from pathlib import Path
from scrape.emojigraph import Patience, collect_emojigraph
options = json.loads(sys.argv[1])
for name in ("output", "emojibase"):
    options[name] = Path(options[name])
options["patience"] = Patience(timeout=2, first_pause=0.1, longest_pause=5)
report = collect_emojigraph(options.pop("output"), **options)
# On Linux, what getrusage says began with the memory of the process that started this one.
status = Path("/proc/self/status")
if status.exists():
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"images": report.images, "requests": report.requests, "peak": peak}))
"""


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = emojis(COUNT, 160)
        emojibase = write_emojibase(folder / "emojibase", listed)
        yield from _faulty(folder, listed, emojibase)
        yield from _fast(folder, listed, emojibase)
        yield from _killed(folder, emojibase)


def _faulty(folder: Path, listed: list[Listed], emojibase: Path) -> Iterator[Row]:
    output = folder / "faulty"
    with _site("--faults") as url:
        _crawl(output, url, emojibase, rate=RATE, keep_originals=True).wait()
        log = _log(url)
    bad = spoil(LocalSite(), listed)
    good = {emoji.points.upper(): emoji.picture for emoji in listed if emoji.image not in bad}
    sums = {row["hexcode"]: row["sha256"] for row in _lines(output / "metadata.jsonl")}
    kept = {path.stem: path.read_bytes() for path in (output / "originals").iterdir()}
    right = sum(
        sums.get(name) == hashlib.sha256(data).hexdigest() and kept.get(name) == data for name, data in good.items()
    )
    failures = {row["url"].removeprefix(url): row["reason"] for row in _lines(output / "failures.jsonl")}
    yield Row(
        what=f"faulty site of {COUNT:,} emoji: pictures collected, byte for byte, and bad ones with their reason",
        goal=f"{len(good):,} and {len(bad)}",
        measured=f"{right:,} and {sum(failures.get(path) == reason for path, reason in bad.items())}",
        met=right == len(good) == len(sums) and failures == bad,
        note=f"{sum(served.faulty for served in log):,} faulty answers",
    )
    most = 2 + 2 * COUNT + sum(served.faulty for served in log)
    yield Row(
        what="its requests: the list, pages, pictures, robots.txt, and one more for each faulty answer",
        goal=f"<= {most:,}",
        measured=f"{len(log):,}",
        met=len(log) <= most,
    )
    busiest = most_in(1.0, log)
    yield Row(
        what=f"its most requests within a second, at a rate of {RATE:g}, as they came to the site",
        goal=f"<= {RATE + 1:g}",
        measured=f"{busiest}",
        met=busiest <= RATE + 1,
        note="a second that begins and ends with a request holds one more than the rate",
    )


def _fast(folder: Path, listed: list[Listed], emojibase: Path) -> Iterator[Row]:
    output = folder / "fast"
    with _site("--delay", str(DELAY_S)) as url:
        start = time.perf_counter()
        large = _finish(_crawl(output, url, emojibase, descriptions=False))
        crawled = COUNT / (time.perf_counter() - start)
        serial = _serial(folder / "serial", url, listed[:SERIAL])
        small = _finish(_crawl(folder / "small", url, emojibase, descriptions=False, limit=COUNT // 4))
        _log(url)
        _finish(_crawl(output, url, emojibase, descriptions=False))
        again = [served for served in _log(url) if served.path.startswith("/media/")]
    yield Row(
        what=f"images a second, {CONCURRENCY} at once, {DELAY_S * 1000:g} ms an answer, against requests in a loop",
        goal=">= 10 x",
        measured=f"{crawled / serial:.1f} x ({crawled:.0f} / {serial:.1f})",
        met=crawled >= 10 * serial,
        note=f"start of the process and writing of the dataset included; the loop draws and writes {SERIAL} alike",
    )
    megabytes = [run["peak"] for run in (small, large)]
    yield Row(
        what=f"peak memory for {COUNT // 4:,} and for {COUNT:,} images",
        goal="<= 10 % more",
        measured=f"{megabytes[0]:.0f} MB, {megabytes[1]:.0f} MB",
        met=megabytes[1] <= 1.1 * megabytes[0],
        note="of one list, with limit",
    )
    bodies = sum(served.body > 0 for served in again)
    yield Row(
        what=f"second run, nothing changed: bodies of images sent, of {len(again):,} asked for",
        goal="0",
        measured=f"{bodies}",
        met=bodies == 0 and Counter(served.status for served in again) == {304: COUNT},
    )


def _killed(folder: Path, emojibase: Path) -> Iterator[Row]:
    chance = random.Random(0)
    with _site() as url:
        start = time.perf_counter()
        _finish(_crawl(folder / "calm", url, emojibase))
        seconds = time.perf_counter() - start
        _log(url)
        for _ in range(3):
            process = _crawl(folder / "killed", url, emojibase)
            time.sleep(chance.uniform(0.15, 0.3) * seconds)
            process.kill()
            process.wait()
        _finish(_crawl(folder / "killed", url, emojibase))
        times = Counter(served.path for served in _log(url) if served.path != "/robots.txt")
    again = sum(times.values()) - len(times)
    same = _dataset(folder / "calm") == _dataset(folder / "killed")
    yield Row(
        what="killed three times and resumed: the same bytes as undisturbed; requests made twice",
        goal=f"same, <= {3 * CONCURRENCY} (in flight)",
        measured=f"{'same' if same else 'other'}, {again}",
        met=same and again <= 3 * CONCURRENCY,
    )


@contextmanager
def _site(*options: str) -> Iterator[str]:
    """Run a site in a process of its own; yield its address."""
    command = [sys.executable, str(SITE / "local_site.py"), str(COUNT), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _log(url: str) -> list[Served]:
    """The site's log of requests since the log was last read."""
    return [Served(*served) for served in requests.get(f"{url}/-/log", timeout=60).json()]


def _crawl(output: Path, url: str, emojibase: Path, **options: object) -> subprocess.Popen[str]:
    defaults = {"base_url": url, "rate": 0.0, "concurrency": CONCURRENCY, "emojibase": str(emojibase)}
    arguments = json.dumps({"output": str(output), **defaults, **options})
    return subprocess.Popen([sys.executable, "-c", CRAWL, arguments], stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> dict[str, float]:
    said, _ = process.communicate()
    return dict(json.loads(said))


def _serial(folder: Path, url: str, listed: list[Listed]) -> float:
    """Images a second of a simple loop that fetches, checks, renders and writes one image after another."""
    folder.mkdir()
    start = time.perf_counter()
    with requests.Session() as session:
        for emoji in listed:
            answer = session.get(url + emoji.image, timeout=10)
            (folder / f"{emoji.points}.png").write_bytes(draw(answer.content, Form()).png)
    return len(listed) / (time.perf_counter() - start)


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _dataset(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("crawl.sqlite"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

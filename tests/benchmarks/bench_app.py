"""Loads the demo with twenty clients for two minutes, and measures answers, memory, waiting times and the start.

The server runs in a process of its own, as `genmoji app` starts it. Twelve clients send one request after another to
`/generate`. Eight behave like an open page: they draw with previews and download each result, every third time as a zip
too; now and then they close the page and open another. A third of all requests are abandoned while they wait or are
drawn. Traffic stays on this machine.
"""

from __future__ import annotations

import io
import json
import random
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from zipfile import ZipFile

import httpx
import numpy as np
import psutil
from gradio_client.utils import apply_diff
from PIL import Image
from row import Row

from mlx_genmoji import Genmoji

CLIENTS = 20
PAGES = 8
SECONDS = 120
PROMPTS = ("red apple", "octopus", "ghost", "pizza", "rocket", "guitar", "sunflower", "red heart")
STEPS = 4
LEFT_STEPS = 50
STARTS = 3

SERVER = """
import sys, threading, mlx_genmoji
mlx_genmoji.use_fast_cpu()
from collections import Counter
from app.demo import server, worker
workers, late_steps = [], Counter()
class KeptWorker(worker.Worker):
    def __init__(self, *a, **k):
        super().__init__(*a, **k); workers.append(self)
class CountingProgress(worker.Progress):
    def __call__(self, *a):
        late_steps[self.job] += self.job.cancelled.is_set()
        return super().__call__(*a)
server.Worker, worker.Progress = KeptWorker, CountingProgress
with server.running_server({"builtin": "builtin"}, {}, port=int(sys.argv[1])) as url:
    print(url, flush=True)
    for line in sys.stdin:
        print(workers[0].is_idle, max(late_steps.values(), default=0), flush=True)
"""


@dataclass
class Tally:
    """The results of all clients."""

    answers: list[tuple[str, int, bytes]] = field(default_factory=list)
    """Prompt, seed and the PNG in the answer."""
    left: int = 0
    refused: list[str] = field(default_factory=list)
    pages: int = 0
    """Pages opened."""
    previews: int = 0
    taken: int = 0
    """Downloads by pages: the PNGs, which are also in `answers`, and the zips."""
    seconds: list[float] = field(default_factory=list)


def rows() -> Iterator[Row]:
    starts = [_start() for _ in range(STARTS)]
    yield Row(
        what="`genmoji app`: from the command to an answering page, built-in model",
        goal="<= 10 s",
        measured=f"{statistics.median(starts):.1f} s",
        met=statistics.median(starts) <= 10,
        note=f"median of {STARTS}",
    )
    tally = Tally()
    with demo_server() as (url, process):
        _ask(url, "red apple", 1)
        before = _megabytes(process.pid)
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=_visitor if index < PAGES else _client, args=(url, index, until, tally))
            for index in range(CLIENTS)
        ]
        memory = []
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            time.sleep(1)
            memory.append(_megabytes(process.pid))
        for thread in threads:
            thread.join()
        idle, late = _state(process)
    middle, last = (statistics.median(memory[part]) for part in (slice(30, 50), slice(-20, None)))
    genmoji = Genmoji.load()
    right = sum(_is_right(genmoji, *answer) for answer in tally.answers)
    yield Row(
        what=f"{CLIENTS} clients at once for {SECONDS} s: answers that are, to the pixel, those of their own seed",
        goal="all",
        measured=f"{right} of {len(tally.answers)}",
        met=right == len(tally.answers) > 0,
        note=f"{PAGES} of them pages, {tally.pages} opened, {tally.previews} previews, {tally.taken} downloads;"
        f" {tally.left} left, {len(tally.refused)} refused; an answer took {statistics.median(tally.seconds):.1f} s"
        f" (median), {max(tally.seconds):.1f} s at most",
    )
    yield Row(
        what="steps that a drawing goes on for after its client left, at most; nothing is under way in the end",
        goal="<= 1",
        measured=f"{late}{'' if idle else ', still busy'}",
        met=late <= 1 and idle and tally.left > 0,
        note=f"{tally.left} left",
    )
    yield Row(
        what="the server's memory, in the first minute and at the end",
        goal="<= 5 % more",
        measured=f"{middle:.0f} MB, {last:.0f} MB",
        met=last <= 1.05 * middle,
        note=f"after one drawing {before:.0f} MB; medians over 20 s, from second 30 on and of the last 20 s",
    )


def _client(url: str, index: int, until: float, tally: Tally) -> None:
    chance = random.Random(index)
    seed = 1000 * index
    while time.monotonic() < until:
        seed += 1
        prompt = chance.choice(PROMPTS)
        if chance.random() < 1 / 3:
            _leave(url, prompt, seed, chance.uniform(0.1, 4))
            tally.left += 1
            continue
        started = time.monotonic()
        answer = _ask(url, prompt, seed)
        if isinstance(answer, bytes):
            tally.answers.append((prompt, seed, answer))
            tally.seconds.append(time.monotonic() - started)
        else:
            tally.refused.append(answer)


def _visitor(url: str, index: int, until: float, tally: Tally) -> None:
    chance = random.Random(index)
    seed = 1000 * index
    while time.monotonic() < until:
        with open_page(url) as page:
            tally.pages += 1
            while time.monotonic() < until and chance.random() < 3 / 4:
                seed += 1
                prompt = chance.choice(PROMPTS)
                if chance.random() < 1 / 3:
                    page.draw(prompt, seed, LEFT_STEPS, seconds=chance.uniform(0.1, 4))
                    tally.left += 1
                    # Whoever stays and draws on has to wait until the page is free again.
                    break
                started = time.monotonic()
                shown = page.draw(prompt, seed, STEPS)
                if "token" not in shown or shown["seed"] != seed:
                    tally.refused.append(str(shown.get("error", shown)))
                    continue
                tally.seconds.append(time.monotonic() - started)
                tally.previews += shown["previews"]
                tally.answers.append((prompt, seed, page.take(shown, "png")))
                tally.taken += 1
                if seed % 3 == 0:
                    with ZipFile(io.BytesIO(page.take(shown, "zip"))) as archive:
                        names = archive.namelist()
                        picture = next(name for name in names if name.endswith(".png") and "transparent" not in name)
                        tally.answers.append((prompt, seed, archive.read(picture)))
                    tally.taken += 1


class Page:
    """A client that behaves like an open page, without a browser."""

    def __init__(self, http: httpx.Client, name: str):
        self.http = http
        self.name = name
        config = http.get("config").json()
        event = next(event for event in config["dependencies"] if event["api_name"] == "on_draw")
        self.event = event["id"]
        properties = {component["id"]: component["props"] for component in config["components"]}
        self.inputs = {properties[i].get("elem_id"): properties[i].get("value") for i in event["inputs"]}
        """The values of the page's inputs, by their ids in the page."""

    def draw(
        self, prompt: str, seed: int, steps: int | None = None, count: int = 1, seconds: float = float("inf")
    ) -> dict[str, Any]:
        """Draw; return the last state of the page's stage and the number of previews. Hangs up after `seconds`."""
        values = {"prompt": prompt, "count": count, "seed": str(seed)} | ({} if steps is None else {"steps": steps})
        body = {"data": list((self.inputs | values).values()), "fn_index": self.event, "session_hash": self.name}
        self.http.post("gradio_api/queue/join", json=body).raise_for_status()
        shown: Any = None
        until, previews = time.monotonic() + seconds, 0
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.name}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_generating":
                    stage = message["output"]["data"][0]
                    # After the first, what has changed.
                    shown = stage if shown is None else apply_diff(shown, stage)
                    previews += bool(shown.get("drawing") and shown["tiles"][0])
                if message.get("msg") == "process_completed" or time.monotonic() > until:
                    break
        return {**(shown or {}), "previews": previews}

    def take(self, shown: dict[str, Any], kind: str) -> bytes:
        return self.http.get(f"take/{shown['token']}/0.{kind}?recipe=1").raise_for_status().content


@contextmanager
def open_page(url: str) -> Iterator[Page]:
    name = secrets.token_hex(6)
    with (
        httpx.Client(base_url=url, timeout=300) as http,
        # A page is open as long as this is.
        http.stream("GET", f"gradio_api/heartbeat/{name}"),
    ):
        yield Page(http, name)


def _ask(url: str, prompt: str, seed: int) -> bytes | str:
    """Request one sticker; return its PNG, or the error message."""
    name = _submit(url, prompt, seed, STEPS)
    answer = httpx.get(f"{url}gradio_api/call/generate/{name}", timeout=300).text
    found = re.search(r"event: complete\ndata: (.*)", answer)
    if found is None:
        return answer
    ((files, _, _),) = json.loads(found[1])
    path = files[0]["path"]
    return httpx.get(f"{url}gradio_api/file={path}", timeout=60).raise_for_status().content


def _leave(url: str, prompt: str, seed: int, seconds: float) -> None:
    """Request a drawing of many steps and hang up after `seconds`."""
    name = _submit(url, prompt, seed, LEFT_STEPS)
    with httpx.stream("GET", f"{url}gradio_api/call/generate/{name}", timeout=60):
        time.sleep(seconds)


def _submit(url: str, prompt: str, seed: int, steps: int) -> str:
    body = {"data": [prompt, 1, seed, None, None, "", steps, *[None] * 5, True]}
    answer = httpx.post(f"{url}gradio_api/call/generate", json=body, timeout=60)
    return str(answer.raise_for_status().json()["event_id"])


def _is_right(genmoji: Genmoji, prompt: str, seed: int, png: bytes) -> bool:
    direct = genmoji.generate(prompt, seed=seed, steps=STEPS)[0]
    return np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(direct.image))


def _start() -> float:
    """Start `genmoji app`; return the seconds until its page answers."""
    port = _free_port()
    started = time.perf_counter()
    command = [sys.executable, "-m", "mlx_genmoji", "app", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            httpx.get(f"http://127.0.0.1:{port}/", timeout=60).raise_for_status()
            return time.perf_counter() - started
        finally:
            process.kill()


@contextmanager
def demo_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-c", SERVER, str(_free_port())]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def _state(process: subprocess.Popen[str]) -> tuple[bool, int]:
    """Whether the worker becomes idle within ten seconds, and the most steps that it took after a cancel."""
    assert process.stdin is not None and process.stdout is not None
    for _ in range(100):
        print("state", file=process.stdin, flush=True)
        idle, late = process.stdout.readline().split()
        if idle == "True":
            break
        time.sleep(0.1)
    return idle == "True", int(late)


def _megabytes(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

"""One demo with the built-in model, as `genmoji app` serves it, and one browser, for all tests here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the tests of the demo need the extra app")

from demo_server import Demo, chromium, eventually, free_port

from app.demo import server, session, worker
from app.demo.job import Job
from app.demo.session import Sessions
from app.demo.worker import Progress, Worker
from mlx_genmoji import Genmoji


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    made: list[Any] = []
    late_steps: Counter[Job] = Counter()

    class KeptWorker(Worker):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            made.append(self)

    class KeptSessions(Sessions):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    class CountingProgress(Progress):
        def __call__(self, step: int, steps: int, latents: Any) -> bool:
            if self.job.cancelled.is_set():
                late_steps[self.job] += 1
            return super().__call__(step, steps, latents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Worker", KeptWorker)
        patch.setattr(session, "Sessions", KeptSessions)
        patch.setattr(worker, "Progress", CountingProgress)
        with server.running_server({"builtin": "builtin"}, {}, port=free_port()) as url:
            yield Demo(url, *made, late_steps)


@pytest.fixture(scope="session")
def genmoji() -> Genmoji:
    """What the demo draws with, apart from it."""
    return Genmoji.load()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        # Where every change is tested, tests that nobody runs would pass for ever.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium: apt-get install chromium")
    # No longer than a module: while it runs, this thread has an event loop, and no test can start its own.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox; only this machine's own page is opened.
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(demo: Demo, browser: Any) -> Iterator[Any]:
    """The page, open in a context of its own; a script error in it fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    # A machine may have other things to do.
    context.set_default_timeout(60_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(demo.url)
    page.wait_for_selector(".tile")
    yield page
    context.close()
    assert errors == []
    assert eventually(lambda: demo.worker.is_idle)

"""What is remembered of drawings, and what can be taken away of them; without a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any, cast
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.demo.download_routes import GONE, DownloadRoutes
from app.demo.job import Done, Job
from app.demo.request import Request
from app.demo.session import MAX_DRAWINGS, MAX_SESSIONS, HistoryEntry, Session, Sessions
from mlx_genmoji import Sticker
from mlx_genmoji.prompt import PromptPlan, parse

Get = Callable[[str], httpx.Response]


def picture(seed: int, side: int = 64) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((8, 8, side - 8, side - 8), fill=(200, 30, 10 * (seed % 20)))
    return image


def drawing(prompt: str = "red apple", seed: int = 7, count: int = 2, side: int = 64) -> HistoryEntry:
    stickers = [Sticker(picture(seed + i, side), {"prompt": prompt, "seed": seed + i}) for i in range(count)]
    return HistoryEntry.of(Request(prompt), Done(stickers, PromptPlan.of(parse(prompt)), seed, []))


def visit(sessions: Sessions, name: str, *drawings: HistoryEntry) -> Session:
    """A session that drew, and draws no more."""
    session = sessions.start(name, Job(Request("pig")))
    for drawn in drawings:
        sessions.add(session, drawn)
    session.job = None
    return session


@pytest.fixture
def drawn() -> HistoryEntry:
    return drawing()


@pytest.fixture
def get(drawn: HistoryEntry) -> Get:
    """What is answered to `take/...`, `{}` in it the drawing's token."""
    sessions = Sessions()
    visit(sessions, "visitor", drawn)
    routes = DownloadRoutes(sessions)

    def get(path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=cast(Any, routes))
            async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
                return await client.get(f"/take/{path.format(drawn.token)}")

        return asyncio.run(ask())

    return get


@pytest.mark.parametrize("index", [0, 1])
def test_an_address_gives_the_candidate_that_it_names(index: int, get: Get) -> None:
    answer = get(f"{{}}/{index}.png?recipe=1")
    image = Image.open(BytesIO(answer.content))
    assert np.array_equal(np.asarray(image), np.asarray(picture(7 + index)))
    assert json.loads(image.info["genmoji"])["seed"] == 7 + index
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''red-apple-{index + 1}.png"
    assert answer.headers["cache-control"] == "no-store"


def test_a_transparent_one_is_cut_out(get: Get) -> None:
    answer = get("{}/0.transparent.png?recipe=1")
    assert Image.open(BytesIO(answer.content)).getchannel("A").getextrema() == (0, 255)
    assert answer.headers["content-disposition"].endswith("red-apple-1-transparent.png")


def test_a_zip_holds_what_messengers_take(get: Get) -> None:
    with ZipFile(BytesIO(get("{}/1.zip?recipe=1").content)) as archive:
        names = set(archive.namelist())
        assert {"red-apple-2.png", "red-apple-2-transparent.png", "recipe.json"} <= names
        assert json.loads(archive.read("recipe.json"))["seed"] == 8
        assert max(Image.open(BytesIO(archive.read("telegram/red-apple-2.webp"))).size) == 512
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"slack", "discord-emoji", "discord-sticker", "telegram", "whatsapp"}


@pytest.mark.parametrize("query", ["", "?recipe=0", "?recipe=", "?recipe=yes"])
def test_the_recipe_is_in_no_file_unless_it_is_asked_for(query: str, get: Get) -> None:
    for kind in ("png", "transparent.png"):
        assert "genmoji" not in Image.open(BytesIO(get(f"{{}}/0.{kind}{query}").content)).info


def test_a_zip_without_the_recipe_says_nothing_of_it(get: Get) -> None:
    with ZipFile(BytesIO(get("{}/0.zip?recipe=0").content)) as archive:
        assert "recipe.json" not in archive.namelist()
        assert not any(b'"seed"' in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize(
    "path", ["{}/2.png", "{}/-1.png", "{}/0.heic", "{}/0", "{}", "{}x/0.png", "x/0.png", "../{}/0.png", "{}/0.png/x"]
)
def test_what_is_not_there_is_a_sentence(path: str, get: Get) -> None:
    answer = get(path)
    assert (answer.status_code, answer.text) == (404, GONE)


def test_a_large_picture_is_shown_small_and_taken_away_whole() -> None:
    drawn = drawing(count=1, side=600)
    assert drawn.sticker(0).image.size == (600, 600)
    assert Image.open(BytesIO(drawn.tiles[0])).size == (512, 512)
    assert Image.open(BytesIO(drawn.icon)).size == (96, 96)


def test_looking_around_is_not_remembered_and_drives_nobody_out(drawn: HistoryEntry) -> None:
    sessions = Sessions()
    visit(sessions, "visitor", drawn)
    for number in range(2 * MAX_SESSIONS):
        assert sessions.get(f"stranger {number}").history == []
    assert len(sessions) == 1 and sessions.get("visitor").history == [drawn]


def test_whoever_is_being_drawn_for_is_not_driven_out(drawn: HistoryEntry) -> None:
    sessions = Sessions()
    waiting = sessions.start("waiting", Job(Request("pig")))
    visit(sessions, "visitor", drawn)
    for number in range(2 * MAX_SESSIONS):
        visit(sessions, f"stranger {number}")
    assert len(sessions) == MAX_SESSIONS
    assert sessions.get("waiting") is waiting and sessions.entry(drawn.token) is None


def test_who_gives_no_name_shares_nothing(drawn: HistoryEntry) -> None:
    sessions = Sessions()
    for name in (None, ""):
        visit(sessions, name or "", drawn)
        assert sessions.get(name).history == [] and len(sessions) == 0


def test_all_pictures_together_keep_a_limit() -> None:
    size = drawing().size
    sessions = Sessions(max_bytes=int(3.5 * size))
    first, second, third, fourth = (drawing(prompt) for prompt in ("pig", "cat", "dog", "cow"))
    visit(sessions, "a", first, second)
    visit(sessions, "b", third)
    visit(sessions, "b", fourth)
    assert sessions.entry(first.token) is None
    assert all(sessions.entry(kept.token) is kept for kept in (second, third, fourth))
    # The one that was just drawn stays even if it is too large by itself.
    sessions.max_bytes = 0
    last = drawing("fox")
    visit(sessions, "b", last)
    assert sessions.get("b").history == [last] and sessions.get("a").current is None


def test_the_history_has_an_end() -> None:
    sessions = Sessions()
    session = visit(sessions, "a", *(drawing(count=1) for _ in range(MAX_DRAWINGS + 1)))
    assert len(session.history) == MAX_DRAWINGS and session.current is session.history[0]

"""The page in a real browser: what is clicked, typed and seen."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from demo_server import Demo, eventually
from PIL import Image

from mlx_genmoji import Genmoji
from mlx_genmoji.sticker import read_recipe


def write(page: Any, prompt: str) -> None:
    page.locator("#prompt textarea, #prompt input").first.fill(prompt)


def ask(page: Any, prompt: str) -> None:
    write(page, prompt)
    page.keyboard.press("Enter")


def more(page: Any, **settings: str) -> None:
    """Open "More", and set what is there."""
    if not page.locator("#seed textarea, #seed input").first.is_visible():
        page.locator("#more > button").click()
    for name, value in settings.items():
        field = page.locator(f"#{name} input[type=number], #{name} textarea, #{name} input[type=text]").first
        field.fill(value)
        field.press("Tab")


def finished(page: Any, says: str = "seed") -> None:
    page.wait_for_function("says => document.querySelector('.says').textContent.includes(says)", arg=says)


def downloaded(page: Any, which: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.locator(f"#{which}").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def test_a_prompt_becomes_previews_and_candidates_to_take_away(page: Any, tmp_path: Path) -> None:
    more(page, seed="7", steps="3", count="2")
    ask(page, "red apple")
    page.wait_for_selector('.tile:nth-child(1) img[src^="data:image/jpeg"]')
    page.wait_for_selector(".progress:not([hidden])")
    assert "left" in page.locator(".says").text_content()
    finished(page, "red apple, 3d · seed 7")
    assert page.locator(".tile img").count() == 2

    # The second candidate, chosen with an arrow, is what seed 8 gives alone.
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    finished(page, "seed 8")
    assert page.locator(".tile[aria-selected=true]").get_attribute("aria-label") == "Candidate 2"
    path = downloaded(page, "png", tmp_path)
    assert path.name == "red-apple.png"
    direct = Genmoji.load().generate("red apple", seed=8, steps=3)[0]
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(direct.image))
    assert read_recipe(path) == {**direct.recipe, "plan": (read_recipe(path) or {})["plan"]}

    transparent = Image.open(downloaded(page, "transparent", tmp_path))
    assert transparent.mode == "RGBA" and transparent.getextrema()[3] == (0, 255)
    with ZipFile(downloaded(page, "zip", tmp_path)) as archive:
        assert {"red-apple.png", "red-apple-transparent.png", "recipe.json"} <= set(archive.namelist())
        assert json.loads(archive.read("recipe.json"))["seed"] == 8
        assert max(Image.open(BytesIO(archive.read("telegram/red-apple.webp"))).size) == 512
        folders = {name.split("/")[0] for name in archive.namelist() if "/" in name}
        assert folders == {"slack", "discord-emoji", "discord-sticker", "telegram", "whatsapp"}

    page.locator("#recipe input").uncheck()
    assert eventually(lambda: read_recipe(downloaded(page, "png", tmp_path)) is None)


def test_escape_stops_within_a_step(page: Any, demo: Demo) -> None:
    more(page, steps="50", count="8")
    ask(page, "octopus")
    page.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    page.keyboard.press("Escape")
    finished(page, "Stopped.")
    assert demo.worker.is_idle and demo.worker.steps_after_cancel <= 1
    assert page.locator("#draw").is_enabled()


def test_whoever_closes_the_page_stops_their_drawing(page: Any, demo: Demo) -> None:
    other = page.context.new_page()
    other.goto(demo.url)
    other.wait_for_selector(".tile")
    more(other, steps="50", count="8")
    ask(other, "ghost")
    other.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    other.close()
    assert eventually(lambda: demo.worker.is_idle)
    assert demo.worker.steps_after_cancel <= 1


def test_the_next_visitor_hears_the_position(page: Any, demo: Demo) -> None:
    other = page.context.new_page()
    other.goto(demo.url)
    other.wait_for_selector(".tile")
    more(other, steps="50", count="8")
    ask(other, "ghost")
    other.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    more(page, steps="1", count="1")
    ask(page, "pizza")
    finished(page, "One drawing to draw before yours.")
    other.locator("#cancel").click()
    finished(page, "pizza, 3d")
    other.close()


def test_an_edited_plan_is_drawn_as_it_is(page: Any) -> None:
    more(page, steps="1", count="1", seed="1")
    ask(page, "a pig")
    finished(page, "a pig, 3d")
    page.locator("#plan > button").click()
    field = page.locator("#plan-subject textarea, #plan-subject input").first
    page.wait_for_function(
        "() => document.querySelector('#plan-subject textarea, #plan-subject input').value === 'a pig'"
    )
    field.fill("a blue pig")
    page.locator("#redraw").click()
    finished(page, "a blue pig, 3d")
    final = page.locator("#plan-final textarea, #plan-final input").first
    assert eventually(lambda: final.input_value() == "a blue pig, 3d")
    final.fill("exactly this")
    page.locator("#redraw").click()
    finished(page, "exactly this ·")


def test_a_skin_tone_and_a_person_are_in_the_plan(page: Any) -> None:
    more(page, steps="1", count="1")
    page.locator("#skin-tone label").nth(5).click()
    ask(page, "woman astronaut")
    finished(page, "woman astronaut, dark skin tone, 3d")


def test_what_was_drawn_before_is_shown_again_and_remixed(page: Any) -> None:
    more(page, steps="1", count="1", seed="5")
    ask(page, "red apple")
    finished(page, "red apple, 3d · seed 5")
    ask(page, "pizza")
    finished(page, "pizza, 3d · seed 5")
    page.get_by_label("Show again: red apple").click()
    finished(page, "red apple, 3d · seed 5")
    assert page.locator("#prompt textarea, #prompt input").first.input_value() == "red apple"
    page.get_by_label("Remix: pizza").click()
    page.wait_for_function("() => /^pizza, 3d · seed (?!5$)/.test(document.querySelector('.says').textContent)")
    assert page.locator(".history li").count() == 3


def test_two_emojis_are_combined_into_one_prompt(page: Any) -> None:
    more(page, steps="1", count="1")
    page.get_by_role("button", name="🐱").click()
    page.get_by_role("button", name="👑").click()
    assert page.locator("#prompt textarea, #prompt input").first.input_value() == "🐱 + 👑"
    page.locator("#draw").click()
    finished(page, "cat face wearing a crown, 3d")


@pytest.mark.parametrize(("prompt", "clue"), [("", "The prompt is empty"), ("a nude woman", "is not drawn")])
def test_a_mistake_is_a_sentence_in_the_page(prompt: str, clue: str, page: Any) -> None:
    write(page, prompt)
    page.locator("#draw").click()
    page.wait_for_selector(".error:not([hidden])")
    assert clue in page.locator(".error").text_content()
    assert page.locator("#draw").is_enabled()


@pytest.mark.parametrize(
    "prompt",
    [
        "<img src=x onerror=\"document.title='owned'\">",
        "${document.title='owned'} {{constructor}} `",
        "</script><script>document.title='owned'</script>",
    ],
)
def test_what_looks_like_a_program_is_a_text(prompt: str, page: Any) -> None:
    more(page, steps="1", count="1")
    ask(page, prompt)
    finished(page)
    page.wait_for_selector(".history li")
    assert page.title() == "genmoji"
    assert page.locator("main img[src='x'], #stage script").count() == 0


def test_a_phone_has_room_for_all_of_it(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("#prompt", "#draw", ".tile >> nth=3", "#skin-tone"):
        box = page.locator(name).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert page.locator("#draw").bounding_box()["height"] >= 36


def test_it_is_dark_where_the_system_is(page: Any, demo: Demo) -> None:
    def brightness() -> float:
        colour = page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
        return float(np.mean([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]))

    assert brightness() > 200
    page.emulate_media(color_scheme="dark")
    page.goto(demo.url)
    page.wait_for_selector(".tile")
    assert brightness() < 60


def test_nothing_is_fetched_from_anywhere_else(page: Any, demo: Demo) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(demo.url)
    page.wait_for_selector(".tile")
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((demo.url, "data:", "blob:"))] == []

"""The page in a real browser: what is clicked, typed and seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from demo_server import Demo, eventually
from PIL import Image

from app.demo.session import HistoryEntry
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


def fill(field: Any, text: str) -> None:
    """Type into a field until it keeps the text: while its panel opens, Gradio sets the value that it had."""

    def kept() -> bool:
        field.fill(text)
        field.page.wait_for_timeout(300)
        return field.input_value() == text

    assert eventually(kept)


def value_of(page: Any, name: str) -> str:
    return str(page.locator(f"#{name} textarea, #{name} input").first.input_value())


def test_a_prompt_becomes_previews_and_candidates_to_take_away(page: Any, tmp_path: Path, genmoji: Genmoji) -> None:
    more(page, seed="7", steps="20", count="2")
    ask(page, "red apple")
    page.wait_for_selector('.tile:nth-child(1) img[src^="data:image/jpeg"]')
    page.wait_for_selector(".progress:not([hidden])")
    assert "left" in page.locator(".says").text_content()
    assert not page.locator(".take").is_visible()
    finished(page, "red apple, 3d · seed 7")
    assert page.locator(".tile img").count() == 2

    # The second candidate is what seed 8 gives alone, and is what is taken from the moment it is chosen.
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    path = downloaded(page, "png", tmp_path)
    assert "seed 8" in page.locator(".says").text_content()
    assert page.locator(".tile[aria-selected=true]").get_attribute("aria-label") == "Candidate 2"
    assert path.name == "red-apple-2.png"
    direct = genmoji.generate("red apple", seed=8, steps=20)[0]
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(direct.image))
    assert read_recipe(path) == {**direct.recipe, "plan": (read_recipe(path) or {})["plan"]}

    # So is the first with its recipe, and without it.
    page.locator(".tile").first.click()
    assert (read_recipe(downloaded(page, "png", tmp_path)) or {})["seed"] == 7
    page.locator("#recipe input").uncheck()
    assert read_recipe(downloaded(page, "transparent", tmp_path)) is None


def test_the_slider_of_variety_reaches_the_picture(page: Any, tmp_path: Path, genmoji: Genmoji) -> None:
    more(page, seed="7", steps="1", count="1", variety="0")
    ask(page, "pizza")
    finished(page, "pizza, 3d · seed 7")
    path = downloaded(page, "png", tmp_path)
    plain, varied = (genmoji.generate("pizza", seed=7, steps=1, variety=variety)[0] for variety in (0, 1))
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(plain.image))
    assert plain.image.tobytes() != varied.image.tobytes()


def test_escape_stops_within_a_step(page: Any, demo: Demo) -> None:
    more(page, steps="50", count="8")
    ask(page, "octopus")
    page.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    page.keyboard.press("Escape")
    finished(page, "Stopped.")
    assert eventually(lambda: demo.worker.is_idle) and demo.most_late_steps <= 1
    assert eventually(page.locator("#draw").is_enabled)


def test_whoever_closes_the_page_stops_their_drawing(page: Any, demo: Demo) -> None:
    other = page.context.new_page()
    other.goto(demo.url)
    other.wait_for_selector(".tile")
    more(other, steps="50", count="8")
    ask(other, "ghost")
    other.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    other.close()
    assert eventually(lambda: demo.worker.is_idle)
    assert demo.most_late_steps <= 1


def test_the_next_visitor_hears_the_position(page: Any, demo: Demo) -> None:
    other = page.context.new_page()
    other.goto(demo.url)
    other.wait_for_selector(".tile")
    more(other, steps="50", count="8")
    ask(other, "ghost")
    other.wait_for_selector('.tile img[src^="data:image/jpeg"]')
    more(page, steps="1", count="1")
    ask(page, "pizza")
    finished(page, "One drawing before yours.")
    other.locator("#cancel").click()
    finished(page, "pizza, 3d ·")
    other.close()


def test_a_pack_is_drawn_and_taken_away_as_one_zip(page: Any, tmp_path: Path) -> None:
    more(page, steps="1", seed="7")
    write(page, "orange cat")
    assert not page.locator("#pack-zip").is_visible()
    page.locator("#pack").click()
    finished(page, "hello · seed 7")
    assert page.locator(".tile img[src^='data:image/png']").count() == 16
    page.locator(".tile >> nth=7").click()
    assert page.locator(".says").inner_text() == "cool · seed 7"
    path = downloaded(page, "pack-zip", tmp_path)
    assert path.name == "orange-cat-pack.zip"
    names = set(ZipFile(path).namelist())
    assert {"contact-sheet.png", "telegram/sticker-set.json", "whatsapp/contents.json", "stickers/cool.png"} <= names
    page.locator("#recipe").click()
    names_left = set(ZipFile(downloaded(page, "pack-zip", tmp_path)).namelist())
    assert names - names_left == {"pack.json", *(name for name in names if name.startswith("stickers/"))}
    assert downloaded(page, "png", tmp_path).name == "orange-cat-cool.png"


def test_an_edited_plan_is_drawn_as_it_is(page: Any) -> None:
    more(page, steps="1", count="1", seed="1")
    ask(page, "a green apple")
    finished(page, "green apple, 3d ·")
    page.locator("#plan > button").click()
    field = page.locator("#plan-subject textarea, #plan-subject input").first
    page.wait_for_function(
        "() => document.querySelector('#plan-subject textarea, #plan-subject input')?.value === 'a green apple'"
    )
    fill(field, "a blue fox")
    page.locator("#redraw").click()
    finished(page, "a blue fox, 3d ·")
    final = page.locator("#plan-final textarea, #plan-final input").first
    assert eventually(lambda: final.input_value() == "a blue fox, 3d")
    fill(final, "red apple, flat")
    page.locator("#redraw").click()
    finished(page, "red apple, flat ·")


def test_a_skin_tone_and_a_person_are_in_the_plan(page: Any) -> None:
    more(page, steps="1", count="1")
    page.locator("#skin-tone label").nth(5).click()
    ask(page, "woman astronaut")
    finished(page, "woman astronaut, dark skin tone, 3d ·")


def test_what_was_drawn_before_is_shown_again_and_remixed(page: Any) -> None:
    more(page, steps="1", count="1", seed="5")
    ask(page, "red apple")
    finished(page, "red apple, 3d · seed 5")
    more(page, seed="")
    ask(page, "pizza")
    finished(page, "pizza, 3d ·")
    first = page.locator(".says").text_content()
    # The inputs are as they were: a seed that was asked for, and none where it was left to chance.
    page.get_by_label("Show again: red apple").click()
    finished(page, "red apple, 3d · seed 5")
    assert eventually(lambda: (value_of(page, "prompt"), value_of(page, "seed")) == ("red apple", "5"))
    page.get_by_label("Remix: pizza").click()
    page.wait_for_function("before => document.querySelector('.says').textContent.startsWith('pizza')", arg=first)
    assert page.locator(".says").text_content() != first
    assert page.locator(".history li").count() == 3
    assert eventually(lambda: (value_of(page, "prompt"), value_of(page, "seed")) == ("pizza", ""))


def test_what_cannot_be_shown_is_said_and_one_can_go_on(
    page: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    more(page, steps="1", count="1")
    with monkeypatch.context() as patch:
        patch.setattr(HistoryEntry, "of", fail)
        ask(page, "pizza")
        page.wait_for_selector(".error:not([hidden])")
    assert page.locator(".error").text_content().startswith("Something went wrong")
    assert "no room" in capfd.readouterr().err
    assert eventually(page.locator("#draw").is_enabled)
    ask(page, "pizza")
    finished(page, "pizza, 3d ·")


def test_two_emojis_are_combined_into_one_prompt(page: Any) -> None:
    more(page, steps="1", count="1")
    page.get_by_role("button", name="🐱").click()
    page.get_by_role("button", name="👑").click()
    assert value_of(page, "prompt") == "🐱 + 👑"
    page.locator("#draw").click()
    finished(page, "cat face wearing a crown, 3d ·")
    assert "Drawn by parts and put together: cat face, crown." in page.locator(".notes").text_content()


def test_a_mistake_is_a_sentence_in_the_page(page: Any) -> None:
    for prompt, clue in (("", "The prompt is empty"), ("a nude woman", "is not drawn")):
        write(page, prompt)
        page.locator("#draw").click()
        assert eventually(lambda: clue in page.locator(".error").text_content())  # noqa: B023
        assert page.locator(".error").is_visible()
        assert eventually(page.locator("#draw").is_enabled)


def test_what_looks_like_a_program_is_a_text(page: Any) -> None:
    more(page, steps="1", count="1")
    script = "document.title='owned'"
    ask(page, f'<img src=x onerror="{script}"> ${{{script}}} {{{{constructor}}}} ` </script><script>{script}</script>')
    finished(page)
    page.wait_for_selector(".history li")
    assert page.title() == "genmoji"
    assert page.locator("main img[src='x'], #stage script").count() == 0


def picture_of(page: Any, folder: Path) -> np.ndarray:
    return np.asarray(Image.open(downloaded(page, "png", folder)).convert("RGB")).astype(int)


def test_a_style_is_chosen_and_remix_takes_the_next(page: Any, tmp_path: Path) -> None:
    more(page, steps="1", count="1", seed="5", variety="0")
    ask(page, "pizza")
    finished(page, "pizza, 3d · seed 5")
    shaded = picture_of(page, tmp_path)
    page.locator("#style input[value=flat]").check()
    ask(page, "pizza")
    finished(page, "pizza, flat · seed 5")
    flat = picture_of(page, tmp_path)
    assert np.abs(shaded - flat).mean() > 5
    page.get_by_label("Remix: pizza").first.click()
    finished(page, "pizza, 3d ·")
    assert np.abs(picture_of(page, tmp_path) - flat).mean() > 5


def test_a_picture_to_start_from_is_chosen_pasted_and_removed(page: Any, tmp_path: Path) -> None:
    more(page, steps="1", count="1", seed="5", variety="0")
    ask(page, "cat")
    finished(page, "cat")
    plain = picture_of(page, tmp_path)
    blue = Image.new("RGB", (600, 600), "white")
    blue.paste((30, 80, 230), (300, 300, 560, 560))
    blue.save(tmp_path / "blue.png")
    page.locator("#picture input").set_input_files(tmp_path / "blue.png")
    page.wait_for_selector("#picture img[src^='data:image/jpeg']")
    ask(page, "cat")
    finished(page, "cat")
    assert eventually(lambda: np.abs(picture_of(page, tmp_path) - plain).mean() > 3)
    assert page.locator("#strength").is_visible()
    page.get_by_label("Remove the picture").click()
    assert not page.locator("#picture img").is_visible()
    # The clipboard of a browser holds files too.
    page.evaluate(
        """async () => {
            const canvas = document.createElement('canvas')
            canvas.width = canvas.height = 40
            canvas.getContext('2d').fillRect(5, 5, 20, 20)
            const blob = await new Promise(resolve => canvas.toBlob(resolve))
            const data = new DataTransfer()
            data.items.add(new File([blob], 'a.png', {type: 'image/png'}))
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}))
        }"""
    )
    page.wait_for_selector("#picture img[src^='data:image/jpeg']")


def test_what_was_drawn_is_there_after_a_reload(page: Any) -> None:
    more(page, steps="1", count="1", seed="5")
    ask(page, "red apple")
    finished(page, "red apple, 3d · seed 5")
    page.reload()
    page.wait_for_selector(".says")
    finished(page, "red apple, 3d · seed 5")
    page.wait_for_selector(".history li")
    assert page.get_by_label("Show again: red apple").count() >= 1
    assert eventually(lambda: value_of(page, "prompt") == "red apple")


def test_what_was_left_out_of_the_prompt_is_said(page: Any) -> None:
    more(page, steps="1", count="1")
    ask(page, "knight wearing a zorkmid")
    finished(page, "seed")
    assert "zorkmid" in page.locator("#stage").text_content()


def test_fingers_find_what_they_tap(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    more(page, steps="1", count="2")
    ask(page, "red apple")
    finished(page)
    for name in ("#draw", "#png", "#transparent", "#zip", "#copy", "#recipe", "#picture .choose"):
        box = page.locator(name).first.bounding_box()
        assert box["height"] >= 44, (name, box)
    for control in page.locator(".history button").all():
        box = control.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44


def test_a_phone_has_room_for_all_of_it(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#plan > button").click()
    more(page, steps="1")
    ask(page, "red apple")
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    parts = (
        "#prompt",
        "#draw",
        ".tile >> nth=3",
        "#zip",
        "#recipe",
        "#skin-tone",
        "#plan-final",
        "#redraw",
        "#sampler",
    )
    for name in parts:
        box = page.locator(name).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, name
    for name in ("#draw", "#png", "#recipe"):
        assert page.locator(name).bounding_box()["height"] >= 36, name
    # What iOS does not zoom in on.
    sizes = page.evaluate(
        "Array.from(document.querySelectorAll('#options input:not([type=radio], [type=range]), textarea'))"
        ".map(field => [field.ariaLabel || field.type, parseFloat(getComputedStyle(field).fontSize)])"
    )
    assert len(sizes) > 10 and [name for name, size in sizes if size < 16] == []


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
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(demo.url)
    page.wait_for_selector(".tile")
    assert len(urls) > 5
    assert [url for url in urls if not url.startswith((demo.url, "data:", "blob:"))] == []

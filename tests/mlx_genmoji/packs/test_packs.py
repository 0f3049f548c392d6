"""Packs: every messenger's folder is one that it takes; a pack that is made again goes on; nothing is mixed up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_formats import CHECKS
from PIL import Image

import mlx_genmoji
from mlx_genmoji import Cancelled, Genmoji, UserError, make_pack
from mlx_genmoji.packs import make
from mlx_genmoji.packs.messengers import MESSENGERS, ascii_slug, joined, messengers_named
from mlx_genmoji.packs.moods import DEFAULT_MOODS, MOODS, moods_named
from mlx_genmoji.prompt.lexicon import emojis
from mlx_genmoji.reader.closed_form import ClosedReader
from mlx_genmoji.sticker import read_recipe

STEPS = 2


@pytest.fixture(scope="module")
def genmoji() -> Genmoji:
    return Genmoji.load()


@pytest.fixture(scope="module")
def pack(genmoji: Genmoji, tmp_path_factory: pytest.TempPathFactory) -> make.Pack:
    """A pack of all default moods for all messengers."""
    return make_pack(genmoji, "orange cat", tmp_path_factory.mktemp("packs") / "cat", seed=7, steps=STEPS)


class Counted:
    """What a pack draws, counted."""

    def __init__(self, genmoji: Genmoji, monkeypatch: pytest.MonkeyPatch):
        self.prompts: list[str] = []
        generate = genmoji.generate

        def counted(prompt: str, **options: Any) -> Any:
            self.prompts.append(prompt)
            return generate(prompt, **options)

        monkeypatch.setattr(genmoji, "generate", counted)


@pytest.fixture
def drawn(genmoji: Genmoji, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return Counted(genmoji, monkeypatch).prompts


def small(genmoji: Genmoji, folder: Path, subject: str = "orange cat", **changes: Any) -> make.Pack:
    """A pack of three stickers for Slack."""
    options: dict[str, Any] = {"moods": ["love", "cool", "good night"], "messengers": ["slack"], "seed": 7, "steps": 1}
    return make_pack(genmoji, subject, folder, **options | changes)


def test_at_least_twelve_moods_are_drawn_by_default(pack: make.Pack) -> None:
    assert len(pack.stickers) == len(DEFAULT_MOODS) >= 12 and pack.notes == []
    needed = {"hello", "love", "laughing", "crying", "angry", "sleepy", "party", "cool", "thinking", "sick", "wow"}
    assert {*needed, "thumbs-up", "good-night"} <= set(pack.stickers)


def test_all_checks_are_for_all_messengers() -> None:
    assert set(CHECKS) == set(MESSENGERS) == {"telegram", "whatsapp", "signal", "discord", "slack"}


@pytest.mark.parametrize("messenger", CHECKS)
def test_a_messenger_takes_its_folder(messenger: str, pack: make.Pack) -> None:
    emoji_of_file = CHECKS[messenger](pack.folders[messenger])
    meant = {mood.name: mood for mood in MOODS}
    expected = [meant[name].shortcode if messenger == "discord" else meant[name].emoji for name in pack.stickers]
    assert sorted(emoji_of_file.values()) == sorted(expected)


@pytest.mark.parametrize("subject", ["Crème brûlée 🍮!", "猫", "x" * 200, "4 pigs", "a_b--c"])
def test_names_are_ones_that_messengers_take_whatever_the_subject(
    subject: str, pack: make.Pack, tmp_path: Path
) -> None:
    picture = pack.stickers["love"].cutout()
    figures = [make.Figure(mood, f"{subject} {mood.name}", picture) for mood in MOODS]
    metadata = make.Metadata(subject * 3, subject, ascii_slug(subject))
    for name, check in CHECKS.items():
        folder = make._write_folder(tmp_path / name, MESSENGERS[name].files(metadata, figures))
        assert len(check(folder)) == len(MOODS)


def test_a_check_notices_what_is_wrong(pack: make.Pack, tmp_path: Path) -> None:
    figures = [make.Figure(MOODS[0], "x" * 300, pack.stickers["love"].cutout())]
    files = MESSENGERS["whatsapp"].files(make.Metadata("Cat", "me", "cat"), figures)
    with pytest.raises(AssertionError):
        CHECKS["whatsapp"](make._write_folder(tmp_path / "too-few", files))
    folder = make._write_folder(
        tmp_path / "slack", MESSENGERS["slack"].files(make.Metadata("Cat", "me", "cat"), figures)
    )
    (folder / "Big Cat.png").write_bytes((folder / "cat-hello.png").read_bytes())
    with pytest.raises(AssertionError):
        CHECKS["slack"](folder)


def test_every_mood_stands_for_one_emoji_and_has_a_name_of_its_own() -> None:
    for values in ([mood.name for mood in MOODS], [mood.emoji for mood in MOODS], [mood.shortcode for mood in MOODS]):
        assert len(set(values)) == len(MOODS)
    assert all(mood.emoji in emojis() for mood in MOODS)
    assert all("{x}" in text for mood in MOODS for text in (mood.sentence, *mood.wordings))


@pytest.mark.parametrize("subject", ["orange cat", "pizza", "woman", "red apple", "robot", "penguin", "ghost"])
def test_every_mood_can_be_drawn_of_any_subject(subject: str, genmoji: Genmoji) -> None:
    prompts, notes = make.prompts_of(genmoji, subject, MOODS, {})
    assert [mood.name for mood in prompts] == [mood.name for mood in MOODS] and notes == []
    combinations = [genmoji.combination(prompt) for prompt in prompts.values()]
    # No mood is left in the subject's caption, where it makes a smear of it.
    reader = genmoji._reader
    assert isinstance(reader, ClosedReader)
    texts = {combination.subject.label for combination in combinations if combination}
    assert all(label in reader.vocabulary for label in texts)


def test_the_best_wording_that_can_be_drawn_is_drawn(genmoji: Genmoji) -> None:
    (laughing,) = moods_named(["laughing"])
    assert make.prompts_of(genmoji, "pizza", [laughing], {})[0] == {laughing: "laughing pizza"}


def test_a_model_that_takes_any_prompt_gets_sentences(genmoji: Genmoji) -> None:
    prompts, _ = make.prompts_of(genmoji, "orange cat", MOODS, {"template": "{prompt}"})
    assert list(prompts.values()) == [mood.sentence.format(x="orange cat") for mood in MOODS]


def test_a_mood_that_cannot_be_drawn_is_left_out_and_noted(genmoji: Genmoji, monkeypatch: pytest.MonkeyPatch) -> None:
    combination, (cool,) = genmoji.combination, moods_named(["cool"])
    refused = {wording.format(x="cat wearing glasses") for wording in cool.wordings}
    monkeypatch.setattr(genmoji, "combination", lambda text, **_: None if text in refused else combination(text))
    prompts, notes = make.prompts_of(genmoji, "cat wearing glasses", moods_named(["cool", "love"]), {})
    assert [mood.name for mood in prompts] == ["love"]
    assert notes == ["Left out, because cat wearing glasses cannot be drawn so: cool."]


def test_all_stickers_show_one_figure(genmoji: Genmoji, tmp_path: Path) -> None:
    made = small(genmoji, tmp_path / "pizza", subject="pizza")
    subjects = [sticker.recipe["combination"]["subject"] for sticker in made.stickers.values()]
    assert subjects == [subjects[0]] * 3 and {sticker.recipe["seed"] for sticker in made.stickers.values()} == {7}


def test_what_is_drawn_once_is_the_same(genmoji: Genmoji, pack: make.Pack) -> None:
    for name in ("love", "good-night", "wow"):
        sticker = pack.stickers[name]
        again = genmoji.replay(sticker.recipe)
        assert np.array_equal(np.asarray(again.image), np.asarray(sticker.image)) and again.recipe == sticker.recipe
        # Alone its parts are drawn in one batch, which rounds differently: a pixel at the edge of a part may change.
        alone = genmoji.generate(sticker.recipe["prompt"], seed=7, steps=STEPS, variety=0)[0]
        assert alone.recipe == {**sticker.recipe, "batched": True}
        difference = np.abs(np.asarray(alone.image, np.int16) - np.asarray(sticker.image))
        assert (difference > 1).mean() <= 1e-3


def test_the_subject_is_drawn_once(genmoji: Genmoji, tmp_path: Path) -> None:
    steps = 0

    def count(progress: make.Progress) -> None:
        nonlocal steps
        steps += progress.sticker is None

    made = small(genmoji, tmp_path / "pizza", subject="pizza", callback=count)
    recipes = [sticker.recipe["combination"] for sticker in made.stickers.values()]
    parts = [item["part"] for recipe in recipes for item in recipe["joined"] if item["part"]]
    # The pizza once, and each thing that is put together with it, of one step each.
    assert steps == len({part["text"] for part in (recipes[0]["subject"], *parts)})


def test_outside_of_the_block_everything_is_drawn_again(genmoji: Genmoji) -> None:
    steps: list[int] = []

    def draw() -> None:
        genmoji.generate("cat with hearts", seed=1, steps=1, callback=lambda step, *_: steps.append(step))

    with genmoji.keeping_drawings():
        draw()
        draw()
    assert len(steps) == 2
    draw()
    assert len(steps) == 4


def test_a_picture_to_start_from_is_not_mistaken_for_another(genmoji: Genmoji) -> None:
    pictures = [Image.new("RGB", (128, 128), colour) for colour in ("red", "blue")]
    with genmoji.keeping_drawings():
        first, second = (
            genmoji.generate("red apple", seed=1, steps=4, image=picture, strength=0.5)[0].image for picture in pictures
        )
    assert not np.array_equal(np.asarray(first), np.asarray(second))


def test_a_pack_that_is_made_again_is_kept(genmoji: Genmoji, drawn: list[str], tmp_path: Path) -> None:
    small(genmoji, tmp_path / "cat")
    before = {path: path.read_bytes() for path in (tmp_path / "cat").rglob("*.*")}
    drawn.clear()
    small(genmoji, tmp_path / "cat", seed=None)
    assert drawn == [] and {path: path.read_bytes() for path in (tmp_path / "cat").rglob("*.*")} == before


def test_what_is_missing_or_damaged_is_drawn_again(genmoji: Genmoji, drawn: list[str], tmp_path: Path) -> None:
    small(genmoji, tmp_path / "cat")
    stickers = tmp_path / "cat" / "stickers"
    whole = {path.name: path.read_bytes() for path in stickers.iterdir()}
    (stickers / "love.png").unlink()
    (stickers / "cool.png").write_bytes(whole["cool.png"][:-2000])
    (stickers / "good-night.png").write_bytes(whole["love.png"])
    drawn.clear()
    small(genmoji, tmp_path / "cat", seed=None)
    assert len(drawn) == 3 and {path.name: path.read_bytes() for path in stickers.iterdir()} == whole


def test_a_pack_that_was_stopped_goes_on_with_its_seed(genmoji: Genmoji, drawn: list[str], tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        small(genmoji, tmp_path / "cat", seed=None, callback=lambda progress: progress.done < 1)
    seed = json.loads((tmp_path / "cat" / "pack.json").read_text())["drawing"]["seed"]
    drawn.clear()
    made = small(genmoji, tmp_path / "cat", seed=None)
    assert len(drawn) == 2 and {sticker.recipe["seed"] for sticker in made.stickers.values()} == {seed}


def test_more_moods_and_messengers_are_added(genmoji: Genmoji, drawn: list[str], tmp_path: Path) -> None:
    small(genmoji, tmp_path / "cat", moods=["love", "cool"])
    drawn.clear()
    small(genmoji, tmp_path / "cat", moods=["love", "cool", "fire"], messengers=["whatsapp"])
    assert drawn == ["orange cat on fire"]
    assert len(CHECKS["whatsapp"](tmp_path / "cat" / "whatsapp")) == 3


def test_a_messengers_folder_holds_only_the_moods_that_were_asked_for(genmoji: Genmoji, tmp_path: Path) -> None:
    small(genmoji, tmp_path / "cat")
    small(genmoji, tmp_path / "cat", moods=["love"])
    assert len(CHECKS["slack"](tmp_path / "cat" / "slack")) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"subject": "dog"}, "another subject: orange cat, not dog"),
        ({"seed": 8}, "another seed: 7, not 8"),
        ({"steps": 2}, "another options"),
        ({"skin_tone": "dark"}, "another options"),
    ],
)
def test_another_pack_is_not_mixed_in(
    change: dict[str, Any], named: str, genmoji: Genmoji, drawn: list[str], tmp_path: Path
) -> None:
    small(genmoji, tmp_path / "cat")
    drawn.clear()
    with pytest.raises(UserError, match=named):
        small(genmoji, tmp_path / "cat", **change)
    assert drawn == []


def test_another_model_is_not_mixed_in(genmoji: Genmoji, tmp_path: Path) -> None:
    small(genmoji, tmp_path / "cat")
    path = tmp_path / "cat" / "pack.json"
    described = json.loads(path.read_text())
    described["drawing"]["model_sha256"] = "0" * 64
    path.write_text(json.dumps(described))
    with pytest.raises(UserError, match="another model sha256"):
        small(genmoji, tmp_path / "cat")


def test_a_folder_of_other_files_is_left_alone(genmoji: Genmoji, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="holds other files"):
        small(genmoji, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"subject": "  "}, "The subject is empty"),
        ({"subject": "qwertz uiop"}, "Nothing in 'qwertz uiop' is known"),
        ({"moods": ["love", "grumbling"]}, "There is no mood 'grumbling'; there are: hello, love"),
        ({"moods": []}, "Name at least one mood"),
        ({"messengers": ["icq"]}, "There are no packs for 'icq'; there are some for: telegram"),
        ({"messengers": ["whatsapp"], "moods": ["love", "cool"]}, "A pack for WhatsApp has 3 to 30 stickers, not 2"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    change: dict[str, Any], sentence: str, genmoji: Genmoji, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        small(genmoji, tmp_path / "cat", **change)
    assert not (tmp_path / "cat").exists()


def test_moods_are_named_as_people_write_them() -> None:
    assert [mood.name for mood in moods_named(["Thumbs up", "good_night", "let's go", "thumbs-up"])] == [
        "thumbs-up",
        "good-night",
        "lets-go",
    ]
    assert moods_named(["all"]) == MOODS


def test_without_a_choice_all_messengers_that_take_so_few_are_served() -> None:
    assert messengers_named(None, 2) == ["telegram", "signal", "discord", "slack"]


def test_long_names_keep_their_mood() -> None:
    assert joined("a-very-long-subject-indeed-it-is", "good-morning", 30) == "a-very-long-subje-good-morning"


def test_the_contact_sheet_shows_every_sticker(pack: make.Pack) -> None:
    with Image.open(pack.sheet) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    rows = (pixels.shape[0] - 40) // 200
    assert pixels.shape[1] == 4 * 176 and rows == -(-len(pack.stickers) // 4)
    for i in range(len(pack.stickers)):
        cell = pixels[40 + i // 4 * 200 :, i % 4 * 176 :][:176, :176]
        assert cell.std() > 20


def test_the_drawings_hold_their_recipes(pack: make.Pack) -> None:
    recipe = read_recipe(pack.folder / "stickers" / "love.png")
    assert recipe is not None and recipe["prompt"] == pack.stickers["love"].recipe["prompt"]


def test_the_package_offers_it() -> None:
    assert mlx_genmoji.make_pack is make.make_pack

"""Candidates of a model with a closed vocabulary differ by seed, and each can be made alone and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji import Genmoji
from mlx_genmoji.errors import UserError
from mlx_genmoji.generation.recipe import Recipe
from mlx_genmoji.generation.request import Request, prepare
from mlx_genmoji.generation.variation import Shade, Variation
from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.reader import Options
from mlx_genmoji.reader.lexicon import rows
from mlx_genmoji.reader.variety import Choices
from mlx_genmoji.reader.vocabulary import Vocabulary

STEPS = {"steps": 1, "guidance": 1.0}


@pytest.fixture(scope="module")
def genmoji() -> Iterator[Genmoji]:
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield Genmoji.load()
    mx.set_default_device(device)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    loaded = Vocabulary.load(BUILTIN)
    assert loaded is not None
    return loaded


def requested(genmoji: Genmoji, prompt: str, **options: Any) -> Request:
    return prepare(prompt, Options(**{"count": 12, "seed": 0} | options), genmoji._reader, genmoji._facts)


def labels(genmoji: Genmoji, prompt: str, **options: Any) -> set[str]:
    """The captions of twelve candidates, without their style."""
    request = requested(genmoji, prompt, **options)
    return {caption.rpartition(", ")[0] for captions in request.captions for caption in captions}


def variations(genmoji: Genmoji, prompt: str, **options: Any) -> list[Variation]:
    found = [recipe.variation for recipe in requested(genmoji, prompt, **options).recipes]
    return [variation for variation in found if variation is not None]


@pytest.mark.parametrize("prompt", ["pig", "a cat wearing a hat"])
def test_candidate_i_is_what_its_seed_gives_alone_and_its_recipe_draws_it_again(genmoji: Genmoji, prompt: str) -> None:
    four = genmoji.generate(prompt, count=4, seed=7, **STEPS)
    assert len({sticker.image.tobytes() for sticker in four}) == 4
    for seed, sticker in zip((9, 8), (four[2], four[1]), strict=True):
        alone = genmoji.generate(prompt, seed=seed, **STEPS)[0]
        assert alone.image.tobytes() == sticker.image.tobytes() and alone.recipe == sticker.recipe
        again = genmoji.replay(json.loads(json.dumps(sticker.recipe)))
        assert again.image.tobytes() == sticker.image.tobytes() and again.recipe == sticker.recipe


def test_without_variety_each_candidate_is_the_plain_caption_and_its_picture(genmoji: Genmoji) -> None:
    plain = genmoji.generate("a pig", count=2, seed=3, variety=0, **STEPS)
    as_it_is = genmoji.generate("pig, 3d", count=2, seed=3, template="{prompt}", **STEPS)
    assert [sticker.image.tobytes() for sticker in plain] == [sticker.image.tobytes() for sticker in as_it_is]
    assert all("variation" not in sticker.recipe for sticker in plain)
    assert {sticker.recipe["final_prompt"] for sticker in plain} == {"pig, 3d"}


def test_a_recipe_without_a_variation_replays_the_plain_picture(genmoji: Genmoji) -> None:
    varied = next(s for s in genmoji.generate("pizza", count=2, seed=0, **STEPS) if s.recipe["variation"]["turn"])
    recipe = {name: value for name, value in varied.recipe.items() if name != "variation"}
    plain = genmoji.generate("pizza", seed=recipe["seed"], variety=0, **STEPS)[0]
    assert genmoji.replay(recipe).image.tobytes() == plain.image.tobytes() != varied.image.tobytes()


def test_the_drawing_varies_where_the_prompt_leaves_it_open(genmoji: Genmoji) -> None:
    assert labels(genmoji, "pig") == {"pig", "pig face"}
    assert labels(genmoji, "a hat") == {"top hat", "billed cap", "woman's hat"}
    assert labels(genmoji, "penguin wearing a hat") == {"penguin", "top hat", "billed cap", "woman's hat"}
    assert labels(genmoji, "astronaut") == {"astronaut", "man astronaut", "woman astronaut"}


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("pig face", "pig face"),
        ("top hat", "top hat"),
        ("a cowboy hat", "top hat"),
        ("\U0001f416", "pig"),
        ("woman astronaut", "woman astronaut"),
        ("crescent moon", "crescent moon"),
        ("blue book", "blue book"),
    ],
)
def test_what_the_prompt_names_exactly_stays(genmoji: Genmoji, prompt: str, label: str) -> None:
    assert labels(genmoji, prompt) == {label}


def test_every_caption_of_a_varied_candidate_is_one_that_the_model_was_trained_on(
    genmoji: Genmoji, vocabulary: Vocabulary
) -> None:
    for prompt in ("pig wearing a hat", "firefighter with dark skin", "smiley", "cow riding a bike", "moon, flat"):
        for captions in requested(genmoji, prompt).captions:
            assert [caption for caption in captions if not vocabulary.knows(caption)] == []


@pytest.mark.parametrize(
    "prompt",
    [
        "eight o'clock",
        "keycap: 4",
        "black flag",
        "check mark",
        "back arrow",
        "a button (blood type)",
        "taxi",
        "calendar",
    ],
)
def test_letters_digits_clocks_flags_and_symbols_are_never_mirrored(genmoji: Genmoji, prompt: str) -> None:
    assert not any(variation.mirrored for variation in variations(genmoji, prompt))


def test_other_pictures_look_both_ways_but_not_combinations(genmoji: Genmoji) -> None:
    assert {variation.mirrored for variation in variations(genmoji, "banana")} == {True, False}
    for prompt in ("pig on a bicycle", "cat beside a keycap: 4"):
        assert not any(variation.mirrored for variation in variations(genmoji, prompt))
    assert not any(variation.mirrored for variation in variations(genmoji, "person running: facing right"))


@pytest.mark.parametrize("name", ["variants", "hues", "unmirrored"])
def test_every_label_of_the_tables_is_one_that_the_model_draws(name: str, vocabulary: Vocabulary) -> None:
    table = rows(f"{name}.tsv" if name != "unmirrored" else "unmirrored.txt")
    named = {label for _, *others in table for label in others} if name == "variants" else {row[0] for row in table}
    assert len(table) > 20 and sorted(label for label in named if label not in vocabulary) == []
    assert len({row[0] for row in table}) == len(table)


def test_skin_keeps_its_colour(genmoji: Genmoji) -> None:
    for prompt in ("waving hand", "a scientist with dark skin", "baby", "family", "man"):
        assert all(variation.shades == () for variation in variations(genmoji, prompt))
    riding = variations(genmoji, "astronaut riding a horse")
    # The subject is drawn last.
    assert {variation.shades[-1] for variation in riding} == {Shade()} and riding[0].shades[0] != Shade()


def test_a_colour_that_the_prompt_names_is_not_painted_over(genmoji: Genmoji) -> None:
    painted = {variation.shades[0].paint for variation in variations(genmoji, "balloon")}
    assert len(painted) > 1
    for prompt in ("red balloon", "blue heart", "a green t-shirt"):
        shades = [shade for variation in variations(genmoji, prompt) for shade in variation.shades]
        assert all(shade.paint == 0 and abs(shade.hue) <= 4 for shade in shades)


def test_nothing_varies_with_an_exact_caption_given_noise_or_a_picture_to_start_from(genmoji: Genmoji) -> None:
    latents = mx.zeros((1, *genmoji.latents_shape))
    for options in ({"template": "{prompt}"}, {"latents": latents}, {"image": Image.new("RGB", (9, 9))}):
        assert variations(genmoji, "pig", count=1, **options) == []


def test_less_variety_turns_less(genmoji: Genmoji) -> None:
    def turned(variety: float) -> float:
        return sum(abs(variation.turn) for variation in variations(genmoji, "banana", variety=variety))

    assert 0 < turned(0.25) < turned(1) and turned(1) == pytest.approx(4 * turned(0.25), abs=0.1)


@pytest.mark.parametrize("variety", [-0.1, 1.1, float("nan"), True, "much"])
def test_variety_out_of_range_is_refused(genmoji: Genmoji, variety: Any) -> None:
    with pytest.raises(UserError, match="variety"):
        requested(genmoji, "pig", variety=variety)


def test_neighbouring_seeds_choose_all_options_in_turn() -> None:
    for first in (0, 5, 2**62):
        chosen = [(choices.option(2), choices.option(2)) for choices in (Choices(first + i, 1.0) for i in range(4))]
        assert len(set(chosen)) == 4


def drawing(margin: int = 4) -> Image.Image:
    """A figure that nearly fills its frame, with a mark on its left."""
    picture = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((margin, margin, 95 - margin, 95 - margin), (200, 60, 40))
    pen.rectangle((margin, 40, margin + 20, 56), (20, 40, 160))
    return picture


@pytest.mark.parametrize("turn", [-8.0, 0.0, 45.0])
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_moved_figure_stays_within_a_white_border(turn: float, mirrored: bool) -> None:
    moved = np.asarray(Variation(1.0, mirrored, turn, 1.3, 1.1).moved(drawing(), None)[0])
    edge = np.concatenate([moved[0], moved[-1], moved[:, 0], moved[:, -1]])
    assert (edge == 255).all() and (moved.min(-1) < 200).mean() > 0.3
    blue = np.nonzero((moved[..., 2] > 120) & (moved[..., 0] < 80))[1].mean()
    assert abs(turn) > 10 or (blue > 48) == mirrored


def test_a_shade_changes_the_figure_and_leaves_white_white() -> None:
    picture = drawing()
    shaded = np.asarray(Shade(9.0, 0.0, 1.1, 0.95).apply(picture))
    before = np.asarray(picture)
    white = before.min(-1) == 255
    assert (shaded[white] == 255).all() and (shaded[~white] != before[~white]).any(-1).all()


def test_between_painted_and_other_colours_no_third_hue_appears() -> None:
    ramp = Image.merge("HSV", [Image.linear_gradient("L"), *[Image.new("L", (256, 256), 255)] * 2]).convert("RGB")
    picture = Image.new("RGB", (256, 512), (0, 90, 255))
    picture.paste(ramp.resize((256, 256)), (0, 0))
    painted = np.asarray(Shade(paint=180.0).apply(picture)).astype(int)
    edges = painted[:256].max(-1) - painted[:256].min(-1)
    # Where hues are blended halfway, opposite colours give grey.
    assert edges.min() < 60


def test_paint_takes_the_main_colour_alone() -> None:
    painted = np.asarray(Shade(paint=120.0).apply(drawing()))
    assert painted[20, 48].argmax() == 1 and np.abs(painted[48, 10].astype(int) - (20, 40, 160)).max() <= 4


def test_a_variation_survives_its_recipe(genmoji: Genmoji) -> None:
    recipe = requested(genmoji, "balloon").recipes[1]
    assert recipe.variation is not None and recipe.variation.shades
    stored = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(stored) == recipe and replace(recipe, variation=None) != recipe


@pytest.mark.parametrize(
    "damage",
    [
        {"variation": 3},
        {"variation": {"turn": "left"}},
        {"variation": {"turn": 400}},
        {"variation": {"turn": float("nan")}},
        {"variation": {"scale": 0}},
        {"variation": {"mirrored": 1}},
        {"variation": {"variety": 2}},
        {"variation": {"shades": 1}},
        {"variation": {"shades": [1]}},
        {"variation": {"shades": [{"hue": None}]}},
        {"variation": {"shades": [{}, {}]}},
        {"variation": {"shades": [{"saturation": 1e9}]}},
    ],
)
def test_a_damaged_variation_is_refused(genmoji: Genmoji, damage: Any) -> None:
    recipe = requested(genmoji, "pig", count=1).recipes[0].to_dict()
    with pytest.raises(UserError, match="variation"):
        genmoji.replay(recipe | damage)

"""The parts of a combination are drawn in one batch: to float rounding the same pictures, and exact replays."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_genmoji import Genmoji, Sticker
from mlx_genmoji.errors import Cancelled, UserError
from mlx_genmoji.generation import joined

PROMPT = "cat wearing a crown and sunglasses"
STEPS = 3


@pytest.fixture(scope="module")
def genmoji() -> Genmoji:
    return Genmoji.load()


@pytest.fixture(scope="module")
def drawn(genmoji: Genmoji) -> list[Sticker]:
    return genmoji.generate(PROMPT, seed=4, count=2, steps=STEPS)


def pixels(sticker: Sticker) -> np.ndarray[Any, Any]:
    return np.asarray(sticker.image, np.int16)


def test_a_batch_predicts_what_each_picture_alone_gives(genmoji: Genmoji) -> None:
    family = genmoji.family
    conditions = [family.conditions(f"{label}, 3d", "", 2.0) for label in ("cat", "crown", "pizza")]
    noise = mx.concatenate([family.noise(seed) for seed in range(3)])
    start = genmoji_start(genmoji)
    together = family.predict(noise, 400.0, joined(conditions), 2.0, start)
    for j, condition in enumerate(conditions):
        alone = family.predict(noise[j : j + 1], 400.0, condition, 2.0, start)
        assert np.allclose(np.asarray(together[j]), np.asarray(alone[0]), atol=1e-3)
    assert not np.allclose(np.asarray(together[0]), np.asarray(together[1]), atol=1e-1)


def genmoji_start(genmoji: Genmoji) -> Any:
    _, schedule = genmoji.family.schedule(None, STEPS, None)
    return genmoji.family.start(schedule, None, None, None)


def test_the_denoiser_is_called_once_a_step_for_all_parts(genmoji: Genmoji, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    predict = genmoji.family.predict
    monkeypatch.setattr(genmoji.family, "predict", lambda x, *rest: sizes.append(len(x)) or predict(x, *rest))
    genmoji.generate(PROMPT, seed=4, steps=STEPS)
    assert sizes == [3] * STEPS


def test_replays_are_exact_however_the_parts_were_drawn(genmoji: Genmoji, drawn: list[Sticker]) -> None:
    with genmoji.keeping_drawings():
        one_by_one = genmoji.generate(PROMPT, seed=4, steps=STEPS)[0]
    assert drawn[0].recipe == {**one_by_one.recipe, "batched": True}
    for sticker in (*drawn, one_by_one):
        again = genmoji.replay(sticker.recipe)
        assert np.array_equal(pixels(again), pixels(sticker)) and again.recipe == sticker.recipe
    assert (np.abs(pixels(drawn[0]) - pixels(one_by_one)) > 1).mean() <= 1e-3


def test_a_candidate_is_to_the_bit_what_its_seed_gives_alone(genmoji: Genmoji, drawn: list[Sticker]) -> None:
    alone = genmoji.generate(PROMPT, seed=5, steps=STEPS)[0]
    assert np.array_equal(pixels(alone), pixels(drawn[1])) and alone.recipe == drawn[1].recipe


def test_a_picture_of_one_part_says_nothing_of_batches(genmoji: Genmoji) -> None:
    assert "batched" not in genmoji.generate("red apple", seed=1, steps=1)[0].recipe


def test_a_preview_within_the_callback_is_the_whole_candidate(genmoji: Genmoji, drawn: list[Sticker]) -> None:
    previews: list[Image.Image] = []
    calls: list[tuple[int, int]] = []

    def callback(step: int, steps: int, latents: mx.array) -> None:
        assert latents.shape == (1, *genmoji.latents_shape)
        calls.append((step, steps))
        previews.append(genmoji.preview(latents))

    genmoji.generate(PROMPT, seed=4, steps=STEPS, callback=callback)
    assert calls == [(step, 3 * STEPS) for step in range(3 * STEPS)]
    assert np.array_equal(np.asarray(previews[-1]), pixels(drawn[0]))
    assert not np.array_equal(np.asarray(previews[0]), pixels(drawn[0]))


def test_a_batch_stops_within_its_step(genmoji: Genmoji) -> None:
    steps: list[int] = []
    with pytest.raises(Cancelled):
        genmoji.generate(PROMPT, seed=4, steps=STEPS, callback=lambda step, *_: steps.append(step) or False)
    assert steps == [0]


def test_a_recipe_with_a_damaged_mark_is_refused(genmoji: Genmoji, drawn: list[Sticker]) -> None:
    with pytest.raises(UserError, match="'batched' must be true or false"):
        genmoji.replay(drawn[0].recipe | {"batched": 2})

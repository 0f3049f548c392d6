"""What is composed: never what is held out, and everything that it takes elsewhere; how captions say it."""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from shapes import Build

from mlx_genmoji.combinations.names import name_of
from mlx_genmoji.combinations.relations import KINDS
from mlx_genmoji.english import plural, with_article
from scrape.compose import Composer, Plan, held_out, planner
from scrape.compose.catalogue import Part
from scrape.compose.planner import fill

DRAWS = 200_000


def part(name: str) -> Part:
    return Part(name, name, "animal", "noto", "CC0-1.0", (), Path(), {})


def captions_of(first: str, second: str) -> Iterator[str]:
    """Everything that any kind of composition could say of two parts, in either order."""
    phrases = {
        phrase for kind in KINDS for phrase in (*kind.phrases, *(p for more in kind.more.values() for p in more))
    }
    for (x, y), phrase, article in product(((first, second), (second, first)), phrases, (False, True)):
        if "{y}" in phrase or "{Y}" in phrase:
            yield fill(phrase, part(x), y, article)
    for kind in KINDS:
        for phrase, article in product((*kind.phrases, *kind.more.get(second, ())), (False, True)):
            if kind.name == KIND[first, second]:
                yield fill(phrase, part(first), second, article)


KIND = {(first, second): kind for kind, first, second in held_out().values()}


def test_a_hundred_combinations_are_held_out_the_flying_pig_among_them() -> None:
    assert len(held_out()) == 100
    assert held_out()[frozenset(("pig", "wings"))] == ("wings", "pig", "wings")
    assert "flying pig" in set(captions_of("pig", "wings"))


def test_no_held_out_combination_is_planned_under_any_phrasing_and_all_it_takes_is_planned_elsewhere(
    build: Build, held_out_labels: list[str]
) -> None:
    composer = Composer([build(held_out_labels, source="fluent"), build(held_out_labels)], 32)
    planned = [composer.plan(index) for index in range(DRAWS)]
    pairs = {frozenset(plan.parts) for plan in planned}
    assert not pairs & held_out().keys()
    forbidden = {caption for pair in KIND for caption in captions_of(*pair)}
    assert not forbidden & {plan.caption for plan in planned}
    joined = {(plan.kind, plan.parts[1]) for plan in planned}
    parts = {name for pair in pairs for name in pair}
    for kind, first, second in held_out().values():
        assert {first, second} <= parts
        assert (kind, second) in joined


def test_without_the_list_they_would_be_planned(
    build: Build, held_out_labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    composer = Composer([build(held_out_labels, source="fluent"), build(held_out_labels)], 32)
    monkeypatch.setattr(planner, "held_out", dict)
    planned = {frozenset(composer.plan(index).parts) for index in range(60_000)}
    assert len(planned & held_out().keys()) >= 95


def test_a_held_out_combination_can_be_made_on_purpose(build: Build, held_out_labels: list[str]) -> None:
    composer = Composer([build(held_out_labels)], 32)
    for kind, first, second in held_out().values():
        tries = (composer.combine("noto", kind, first, second, index) for index in range(20))
        plan = next((plan for plan in tries if plan), None)
        assert plan is not None, (kind, first, second)
        assert plan.parts == (first, second)
    assert composer.combine("noto", "wings", "pig", "top hat") is None
    assert composer.combine("twemoji", "wings", "pig", "wings") is None


def test_a_person_is_captioned_with_its_skin_tone(build: Build) -> None:
    tones = ("light", "medium-light", "medium", "medium-dark", "dark")
    composer = Composer([build(["woman", "man: beard", "crown"], tones=tones)], 32)
    plans = [composer.plan(index) for index in range(400)]
    captions = {plan.caption for plan in plans if plan.kind == "wearing"}
    assert "woman with dark skin tone wearing a crown" in captions
    assert "a bearded man with medium-light skin tone and a crown" in captions
    for plan in plans:
        subject = plan.pictures[0]
        assert plan.skin_tone == subject.skin_tone
        assert all(f"{tone} skin tone" in plan.caption for tone in plan.skin_tone)


def test_a_thing_does_nothing(build: Build, held_out_labels: list[str]) -> None:
    composer = Composer([build(held_out_labels)], 32)
    for index in range(3000):
        plan = composer.plan(index)
        if plan.pictures[0].role not in ("animal", "face", "person"):
            assert not any(verb in plan.caption for verb in ("sitting", "paddling", "taking a bath", "in love")), plan


def test_a_new_colour_is_never_the_old_one(build: Build, held_out_labels: list[str]) -> None:
    composer = Composer([build(held_out_labels)], 32)
    colours = {plan.parts[1] for plan in map(composer.plan, range(5000)) if plan.kind == "colour"}
    assert "orange" not in colours
    assert {"blue", "green", "rainbow"} <= colours


@pytest.mark.parametrize(
    ("label", "name"),
    [("pig face", "pig"), ("man: curly hair", "curly-haired man"), ("hot beverage", "cup of coffee"), ("fox", "fox")],
)
def test_labels_get_the_names_people_use(label: str, name: str) -> None:
    assert name_of(label) == name


@pytest.mark.parametrize(
    ("name", "several"),
    [
        ("pig", "pigs"),
        ("fox", "foxes"),
        ("mouse", "mice"),
        ("cup of coffee", "cups of coffee"),
        ("woman", "women"),
        ("snowman", "snowmen"),
        ("woman artist", "women artists"),
        ("bearded man", "bearded men"),
        ("face with tongue", "faces with tongue"),
        ("cherry", "cherries"),
        ("monkey", "monkeys"),
        ("tomato", "tomatoes"),
        ("broom", "brooms"),
        ("human", "humans"),
    ],
)
def test_plurals(name: str, several: str) -> None:
    assert plural(name) == several


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("pig", "a pig"),
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("hourglass", "an hourglass"),
        ("ewe", "a ewe"),
        ("sunglasses", "sunglasses"),
    ],
)
def test_articles(name: str, phrase: str) -> None:
    assert with_article(name) == phrase


def test_a_plan_depends_on_the_seed_and_the_index_alone(build: Build, held_out_labels: list[str]) -> None:
    folder = build(held_out_labels)
    forwards, backwards, other = Composer([folder], 32, 5), Composer([folder], 32, 5), Composer([folder], 32, 6)

    def summary(plan: Plan) -> tuple[str, str, list[str]]:
        return plan.kind, plan.caption, [part.label for part in plan.pictures]

    order = list(range(300))
    random.Random(0).shuffle(order)
    shuffled = {index: summary(backwards.plan(index)) for index in order}
    assert [summary(forwards.plan(index)) for index in range(300)] == [shuffled[index] for index in range(300)]
    assert [summary(other.plan(index)) for index in range(300)] != [shuffled[index] for index in range(300)]

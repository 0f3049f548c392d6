"""The measures that benchmarks judge pictures by, on pictures whose verdict is known."""

from pathlib import Path

import numpy as np
import pytest
from draw_compositions import FILE as COMPOSITIONS
from figures import has_white_border, is_one_figure, largest_component, nearest
from PIL import Image, ImageDraw
from tones import SIZE, Person, Tones, judge, lab

from mlx_genmoji.prompt import SKIN_TONES
from scrape.compose import held_out

PARAPHRASES = COMPOSITIONS.with_name("paraphrases.txt")

SKIN = ((250, 220, 190), (225, 185, 150), (190, 145, 110), (140, 95, 70), (85, 60, 45))


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]


def figure(*boxes: tuple[int, int, int, int], colour: tuple[int, int, int] = (200, 60, 60)) -> Image.Image:
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    for box in boxes:
        ImageDraw.Draw(picture).ellipse(box, colour)
    return picture


def test_every_held_out_combination_has_one_caption_and_nothing_else_has() -> None:
    wanted = rows(COMPOSITIONS)
    assert [tuple(cells[1:4]) for cells in wanted] == list(held_out().values())
    assert wanted[0][0] == "flying pig"
    assert {cells[4] for cells in wanted} == {"fluent", "noto"}


def test_there_are_a_hundred_synonyms_of_a_hundred_emoji() -> None:
    pairs = rows(PARAPHRASES)
    synonyms, labels = zip(*pairs, strict=True)
    assert len(set(synonyms)) == len(set(labels)) == 100
    assert not set(synonyms) & set(labels)


@pytest.mark.parametrize(("picture", "white"), [(figure((4, 4, 59, 59)), True), (figure((0, 4, 59, 59)), False)])
def test_a_white_border(picture: Image.Image, white: bool) -> None:
    assert has_white_border(picture) is white


@pytest.mark.parametrize(
    ("picture", "one"),
    [
        (figure((4, 4, 59, 59)), True),
        (figure((4, 4, 26, 26), (34, 34, 59, 59)), False),
        (figure((4, 4, 59, 59), (62, 0, 62, 0)), True),
        (figure(), False),
    ],
)
def test_one_figure_but_for_specks(picture: Image.Image, one: bool) -> None:
    assert is_one_figure(picture) is one


def test_the_largest_part_of_a_mask_may_wind() -> None:
    mask = np.zeros((40, 40), bool)
    mask[::4] = True
    for row in range(0, 36, 4):
        mask[row : row + 4, 0 if row % 8 else 39] = True
    mask[38, 5:10] = True
    assert largest_component(mask) == mask.sum() - 5


def test_the_nearest_picture_is_found_wherever_it_lies_and_however_large() -> None:
    moved = figure((20, 20, 40, 40))
    others = [figure((4, 4, 59, 30)), figure((4, 4, 59, 59)), figure((4, 4, 59, 59), colour=(0, 0, 0))]
    ((distance, found),) = nearest([moved], others)
    assert found is others[1] and distance < 0.15


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((255, 255, 255), (100, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20)), ((0, 0, 255), (32.30, 79.19, -107.86))],
)
def test_lab_is_the_cie_s(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    assert lab(Image.new("RGB", (8, 8), rgb))[0, 0] == pytest.approx(expected, abs=0.05)


def test_a_tone_is_told_by_the_other_people_of_the_set(tmp_path: Path) -> None:
    people = []
    for place, left in enumerate((6, 10, 14)):
        paths = tuple(tmp_path / f"{place}-{tone}.png" for tone in SKIN_TONES)
        for path, skin in zip(paths, SKIN, strict=True):
            picture = figure((4, 4, 59, 59), colour=(40, 90, 200))
            ImageDraw.Draw(picture).ellipse((left, 10, left + 34, 44), skin)
            picture.save(path)
        people.append(Person(str(place), "noto", paths))
    tones = Tones(people)
    originals = {
        (person, tone): Image.open(path)
        for person in people
        for tone, path in zip(SKIN_TONES, person.originals, strict=True)
    }
    assert judge(tones, originals) == (15, 15)
    as_dark = {(person, tone): originals[person, "dark"] for person, tone in originals}
    assert judge(tones, as_dark) == (3, 6)

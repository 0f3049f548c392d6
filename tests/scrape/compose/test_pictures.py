"""What a composition looks like: where each part is, and how it depends on nothing but the seed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapes import BLUE, BROWN, GREY, RED, SIZE, YELLOW, Build, disc

from mlx_genmoji.combinations.colours import TARGETS, dominant, recolour
from mlx_genmoji.combinations.face_features import features
from scrape import ScrapeError
from scrape.compose import Composer

Mask = NDArray[np.bool_]

SIDE = 96


def pixels_of(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> Mask:
    return np.abs(picture.astype(int) - colour).max(-1) < 40


def middle(mask: Mask) -> tuple[float, float]:
    """Across and down, as fractions."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()) / mask.shape[1], float(rows.mean()) / mask.shape[0]


def compose(folder: Path, kind: str, first: str, second: str, source: str = "noto") -> NDArray[np.uint8]:
    composer = Composer([folder], SIDE)
    plan = composer.combine(source, kind, first, second)
    assert plan is not None
    return composer.picture(plan)


def bar(colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", (SIZE, SIZE))
    ImageDraw.Draw(picture).rectangle((0, SIZE // 3, SIZE - 1, 2 * SIZE // 3), (*colour, 255))
    return picture


@pytest.mark.parametrize("originals", [True, False])
def test_every_picture_is_square_on_white_with_a_margin(build: Build, originals: bool) -> None:
    folder = build(["pig", "cat", "crown", "wing", "fire", "banana"], originals=originals)
    composer = Composer([folder], SIDE)
    for index in range(60):
        picture, caption, parts, _ = composer.draw(index)
        assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
        assert (picture[[0, -1]] == 255).all() and (picture[:, [0, -1]] == 255).all()
        assert (picture < 200).any()
        assert caption and len(parts) == 2


def test_the_same_seed_draws_the_same_picture_in_any_order(build: Build) -> None:
    folder = build(["pig", "cat", "crown", "wing", "fire", "banana"])
    first, second = Composer([folder], SIDE, 3), Composer([folder], SIDE, 3)
    pictures = [first.draw(index).picture for index in range(40)]
    assert all(np.array_equal(second.draw(index).picture, pictures[index]) for index in reversed(range(40)))


def test_wings_are_behind_a_face_at_both_sides(build: Build) -> None:
    picture = compose(build(["grinning face", "egg", "wing"], {"wing": disc(BLUE)}), "wings", "grinning face", "wings")
    wings, face = pixels_of(picture, BLUE), pixels_of(picture, BROWN)
    assert wings[:, : SIDE // 4].any() and wings[:, -SIDE // 4 :].any()
    assert face[SIDE // 2 - 2 : SIDE // 2 + 2, SIDE // 2].all()
    across, _ = middle(wings)
    assert abs(across - 0.5) < 0.03


def test_wings_of_an_animal_seen_from_the_side_grow_from_its_back(build: Build) -> None:
    picture = compose(build(["pig", "egg", "wing"], {"wing": disc(BLUE)}), "wings", "pig", "wings")
    (across, down), (body_across, body_down) = middle(pixels_of(picture, BLUE)), middle(pixels_of(picture, BROWN))
    assert across > body_across and down < body_down


def test_most_of_what_has_wings_or_is_on_a_cloud_shows(build: Build) -> None:
    folder = build(["pig", "egg", "wing", "cloud"], {"wing": disc(BLUE), "cloud": disc(BLUE)})
    composer = Composer([folder], SIDE)
    for kind, second in (("wings", "wings"), ("on", "cloud")):
        plan = composer.combine("noto", kind, "pig", second)
        assert plan is not None
        left, top, right, bottom = dict(composer.boxes(plan))[0]
        whole = np.pi / 4 * (right - left) * (bottom - top)
        assert pixels_of(composer.picture(plan), BROWN).sum() > 0.6 * whole


def test_a_hat_is_on_the_head_and_sunglasses_on_the_eyes(build: Build) -> None:
    labels = ["cat", "grinning face", "crown", "sunglasses", "banana"]
    folder = build(labels, {"crown": disc(BLUE), "sunglasses": bar(RED)})
    hat = compose(folder, "wearing", "grinning face", "crown")
    assert middle(pixels_of(hat, BLUE))[1] < 0.35 < middle(pixels_of(hat, BROWN))[1]
    eyes = compose(folder, "wearing", "grinning face", "sunglasses")
    across, down = middle(pixels_of(eyes, RED))
    assert abs(across - 0.5) < 0.05 and 0.3 < down < 0.5
    # Seen from the side, the cat looks to the left.
    assert middle(pixels_of(compose(folder, "wearing", "cat", "crown"), BLUE))[0] < 0.45


def test_what_is_in_a_bucket_ends_at_its_rim(build: Build) -> None:
    folder = build(["pig", "bucket", "cat"], {"bucket": bar(GREY), "pig": disc(BLUE)})
    picture = compose(folder, "in", "pig", "bucket")
    animal, vessel = pixels_of(picture, BLUE), pixels_of(picture, GREY)
    assert animal.any() and vessel.any()
    assert np.nonzero(animal)[0].max() < np.nonzero(vessel)[0].mean()


def test_what_is_held_is_small_and_in_front(build: Build) -> None:
    picture = compose(build(["panda", "banana"], {"banana": disc(BLUE)}), "with", "panda", "banana")
    held, holder = pixels_of(picture, BLUE), pixels_of(picture, BROWN)
    assert 0.1 < held.sum() / holder.sum() < 0.5
    assert middle(held)[1] > middle(holder)[1]


def test_a_rider_sits_above_what_it_rides(build: Build) -> None:
    picture = compose(build(["panda", "bicycle"], {"bicycle": bar(BLUE)}), "riding", "panda", "bicycle")
    assert middle(pixels_of(picture, BROWN))[1] < middle(pixels_of(picture, BLUE))[1]


def test_something_tiny_stands_on_something_big(build: Build) -> None:
    picture = compose(build(["pig", "hamburger"], {"hamburger": disc(BLUE)}), "tiny", "pig", "hamburger")
    small, big = pixels_of(picture, BROWN), pixels_of(picture, BLUE)
    assert small.sum() < 0.2 * big.sum()
    assert middle(small)[1] < middle(big)[1]


def test_a_plan_says_where_its_parts_are(build: Build) -> None:
    composer = Composer([build(["pig", "hamburger", "egg"], {"hamburger": disc(BLUE)})], SIDE)
    plan = composer.combine("noto", "tiny", "pig", "hamburger")
    assert plan is not None
    picture = composer.picture(plan)
    boxes = dict(composer.boxes(plan))
    for place, colour in enumerate((BROWN, BLUE)):
        rows, columns = np.nonzero(pixels_of(picture, colour))
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        # The upper one covers the lower one's top.
        assert boxes[place][2:] == pytest.approx(expected[2:], abs=2)
        assert boxes[place][0] == pytest.approx(expected[0], abs=2)
    twice = composer.combine("noto", "count", "egg", "two")
    assert twice is not None
    assert [place for place, _ in composer.boxes(twice)] == [0, 0]


def test_two_are_two_and_three_are_three(build: Build) -> None:
    folder = build(["egg", "banana"])
    alone = int(pixels_of(compose(folder, "count", "egg", "two"), BROWN).any(0).sum())
    three = pixels_of(compose(folder, "count", "egg", "three"), BROWN)
    assert alone > SIDE * 0.85
    top, bottom = three[: SIDE // 3], three[-SIDE // 3 :]
    assert top.any(0).sum() < 0.7 * bottom.any(0).sum()


def test_a_figure_of_another_colour_lies_as_it_does_in_its_own_picture(build: Build) -> None:
    present = Image.new("RGBA", (SIZE, SIZE))
    present.paste(disc(YELLOW).resize((SIZE // 2, SIZE // 2)), (SIZE * 7 // 16, SIZE * 7 // 16))
    picture = compose(build(["banana", "pig"], {"banana": present}), "colour", "banana", "blue")
    figure = (picture < 240).any(-1)
    assert middle(figure) == pytest.approx((11 / 16, 11 / 16), abs=0.02)
    assert figure.any(0).sum() == pytest.approx(SIDE / 2, abs=3)


def test_the_same_parts_lie_the_same_way_whatever_the_seed(build: Build) -> None:
    folder = build(["cat", "crown", "banana"], {"crown": disc(BLUE)})
    pictures = []
    for seed in (1, 2):
        composer = Composer([folder], SIDE, seed)
        plan = composer.combine("noto", "wearing", "cat", "crown", index=seed)
        assert plan is not None
        pictures.append(composer.picture(plan))
    assert np.array_equal(*pictures)


def test_a_figure_is_as_large_whatever_it_wears(build: Build) -> None:
    folder = build(["cat", "crown", "top hat", "banana"], {"crown": disc(BLUE), "top hat": disc(RED)})
    crowned, hatted = (
        pixels_of(compose(folder, "wearing", "cat", hat), BROWN).any(0).sum() for hat in ("crown", "top hat")
    )
    assert crowned == hatted


@pytest.mark.parametrize("name", ["green", "blue", "purple", "pink"])
def test_another_colour_is_that_colour_and_leaves_the_rest(name: str) -> None:
    apple = disc(RED)
    pen = ImageDraw.Draw(apple)
    pen.rectangle((28, 4, 36, 14), (60, 160, 40, 255))
    pen.ellipse((26, 26, 38, 38), (255, 255, 255, 255))
    present = dominant(apple)
    assert present is not None and present.name == "red"
    painted = recolour(apple, present, TARGETS[name])
    new = dominant(painted)
    assert new is not None and new.name == name
    assert painted.getpixel((32, 8)) == (60, 160, 40, 255)
    assert painted.getpixel((32, 32)) == (255, 255, 255, 255)
    assert painted.getchannel("A").tobytes() == apple.getchannel("A").tobytes()


def test_a_motley_figure_has_no_colour_to_change_and_a_grey_one_has_none_of_its_own() -> None:
    motley = disc(RED)
    ImageDraw.Draw(motley).rectangle((0, 0, SIZE, SIZE // 2), (*BLUE, 255))
    assert dominant(motley) is None
    grey = dominant(disc(GREY))
    assert grey is not None and (grey.name, grey.hue) == ("grey", None)
    assert dominant(disc((250, 250, 250))) is None
    tinted = dominant(recolour(disc(GREY), grey, TARGETS["pink"]))
    assert tinted is not None and tinted.name == "pink"


def test_a_smileys_eyes_and_mouth_come_without_its_face(build: Build) -> None:
    smiley = disc(YELLOW)
    pen = ImageDraw.Draw(smiley)
    for x in (20, 40):
        pen.ellipse((x, 18, x + 6, 28), (60, 30, 10, 255))
    cut = np.asarray(features(smiley))
    assert cut[23, 23, 3] > 200 and tuple(cut[23, 23, :3]) == pytest.approx((60, 30, 10), abs=12)
    assert cut[45, 32, 3] == 0
    folder = build(["egg", "winking face"], {"winking face": smiley, "egg": disc(BLUE)})
    picture = compose(folder, "emotion", "egg", "winking")
    assert pixels_of(picture, (60, 30, 10)).any() and not pixels_of(picture, YELLOW).any()


def test_white_within_a_figure_stays_and_white_around_it_covers_nothing(build: Build) -> None:
    for originals in (True, False):
        folder = build(["egg", "fire"], {"egg": disc(BLUE, hole=True), "fire": disc(RED)}, originals=originals)
        picture = compose(folder, "fire", "egg", "fire")
        blue = pixels_of(picture, BLUE)
        x, y = (round(SIDE * place) for place in middle(blue))
        assert (picture[y, x] > 230).all()
        # The egg's box has the flame in its corners.
        rows, columns = np.nonzero(blue)
        assert pixels_of(picture, RED)[rows.min() + 1, columns.min() + 1]


def test_an_original_outside_the_dataset_is_not_read(build: Build, tmp_path: Path) -> None:
    folder = build(["egg", "banana"], {"egg": disc(BLUE)})
    disc(RED).save(tmp_path / "secret.png")
    listed = folder / "metadata.jsonl"
    listed.write_text(listed.read_text("utf-8").replace("originals/egg.png", "originals/../../secret.png"), "utf-8")
    assert not pixels_of(compose(folder, "count", "egg", "two"), RED).any()


def test_a_picture_that_cannot_be_read_is_named(build: Build) -> None:
    folder = build(["egg", "banana"], originals=False)
    (folder / "images" / "egg.png").write_bytes(b"nothing")
    with pytest.raises(ScrapeError, match=r"egg\.png cannot be read; collect the set again"):
        compose(folder, "count", "egg", "two")
    Image.new("RGB", (SIZE, SIZE), "white").save(folder / "images" / "egg.png")
    with pytest.raises(ScrapeError, match=r"egg\.png is an empty picture"):
        compose(folder, "count", "egg", "two")

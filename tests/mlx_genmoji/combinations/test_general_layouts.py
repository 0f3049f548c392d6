"""Where things go that only wishes ask for, and on drawings that the table of anchors does not have."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji.combinations import anchors, layouts
from mlx_genmoji.combinations.arrange import Wish, arrange, part_of
from mlx_genmoji.combinations.assemble import put_together
from mlx_genmoji.combinations.combination import ALL_KINDS
from mlx_genmoji.combinations.refacing import Zone, painted_over, without_mouth
from mlx_genmoji.combinations.scenes import prepared
from mlx_genmoji.combinations.silhouette import core
from mlx_genmoji.combinations.sprites import Sprite
from mlx_genmoji.sticker import Sticker

SIZE = 128
BROWN, BLUE, RED, GREEN, DARK = (120, 70, 30), (30, 60, 220), (220, 30, 30), (30, 160, 60), (60, 30, 10)
YELLOW = (250, 200, 60)
Colour = tuple[int, int, int]


def disc(colour: Colour) -> Image.Image:
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    ImageDraw.Draw(picture).ellipse((20, 20, 108, 108), fill=colour)
    return picture


def smiley(colour: Colour = YELLOW) -> Image.Image:
    picture = disc(colour)
    pen = ImageDraw.Draw(picture)
    for left in (44, 72):
        pen.ellipse((left, 46, left + 12, 62), fill=DARK)
    pen.rectangle((54, 80, 74, 88), fill=DARK)
    return picture


def drawn(subject: str, *wishes: str, **colours: Colour | Image.Image) -> Image.Image:
    """A combination of discs; colours: those of the second parts by kind, or their pictures."""
    found, left_out = arrange(part_of(subject), [Wish(*wish.split(":")) for wish in wishes], "fluent")
    assert found is not None and not left_out
    pictures = {found.subject: disc(BROWN)}
    for item in found.joined:
        if item.part:
            picture = colours[item.kind.replace(" ", "_")]
            pictures[item.part] = picture if isinstance(picture, Image.Image) else disc(picture)
    return put_together(found, pictures)


def where(picture: Image.Image, colour: Colour) -> np.ndarray:
    """The pixels near a colour, (y, x)."""
    return np.argwhere((np.abs(np.asarray(picture).astype(int) - colour) < 40).all(-1))


def size(picture: Image.Image, colour: Colour) -> float:
    return float(np.ptp(where(picture, colour)[:, 1]) + 1)


def test_what_is_beside_is_smaller_at_the_right_on_the_same_floor() -> None:
    picture = drawn("rock", "beside:bell", beside=BLUE)
    thing, other = where(picture, BROWN), where(picture, BLUE)
    assert other[:, 1].mean() > thing[:, 1].max() - 10
    assert 0.4 < size(picture, BLUE) / size(picture, BROWN) < 0.7
    assert abs(other[:, 0].max() - thing[:, 0].max()) < 0.1 * SIZE


def test_a_second_thing_beside_is_at_the_left_and_so_is_one_beside_what_is_held() -> None:
    found, _ = arrange(part_of("rock"), [Wish("beside", "bell"), Wish("beside", "key")], "fluent")
    assert found
    bell, key = (item.part for item in found.joined)
    assert bell and key
    picture = put_together(found, {found.subject: disc(BROWN), bell: disc(BLUE), key: disc(GREEN)})
    left, middle, right = (where(picture, colour)[:, 1].mean() for colour in (GREEN, BROWN, BLUE))
    assert left < middle < right
    picture = drawn("rock", "with:guitar", "beside:key", **{"with": BLUE, "beside": GREEN})
    assert where(picture, GREEN)[:, 1].mean() < where(picture, BLUE)[:, 1].mean()


def test_who_is_in_a_car_is_before_its_roof_and_cut_off_at_its_doors() -> None:
    picture = drawn("rock", "in:automobile", **{"in": BLUE})
    rider, car = where(picture, BROWN), where(picture, BLUE)
    assert rider[:, 0].max() < car[:, 0].max() - 0.2 * SIZE and rider[:, 0].max() > car[:, 0].min() + 0.2 * SIZE


def test_who_is_in_what_has_no_opening_looks_out_from_behind_it() -> None:
    picture = drawn("rock", "in:package", **{"in": BLUE})
    assert where(picture, BROWN)[:, 0].min() < where(picture, BLUE)[:, 0].min()
    assert len(where(picture, BLUE)) == pytest.approx(np.pi / 4 * size(picture, BLUE) ** 2, rel=0.1)


def test_a_place_is_behind() -> None:
    picture = drawn("rock", "place:space", place=BLUE)
    assert size(picture, BLUE) > 1.3 * size(picture, BROWN)
    assert len(where(picture, BROWN)) == pytest.approx(np.pi / 4 * size(picture, BROWN) ** 2, rel=0.1)


def test_what_is_giant_has_small_things_at_its_feet_and_what_is_tiny_a_hand() -> None:
    giant = drawn("rock", "giant", giant=BLUE)
    assert where(giant, BLUE)[:, 0].min() > where(giant, BROWN)[:, 0].mean()
    assert len(where(giant, BLUE)) < 0.4 * len(where(giant, BROWN))
    tiny = drawn("rock", "tiny", tiny=BLUE)
    assert size(tiny, BROWN) < 0.7 * size(tiny, BLUE)


def test_what_is_frozen_has_the_colours_of_ice() -> None:
    picture = drawn("rock", "frozen", frozen=RED)
    assert not len(where(picture, BROWN)) and len(where(picture, RED))
    middle = np.asarray(picture)[SIZE // 2, SIZE // 2].astype(int)
    assert middle[2] > middle[0] + 40


def test_three_others_make_a_group_of_four() -> None:
    found, _ = arrange(part_of("rock"), [Wish("and", label) for label in ("bell", "key", "drum")], "fluent")
    assert found and len(found.joined) == 3
    colours = dict(zip(found.parts, (BROWN, BLUE, RED, GREEN), strict=True))
    picture = put_together(found, {part: disc(colour) for part, colour in colours.items()})
    sizes = [size(picture, colour) for colour in colours.values()]
    assert max(sizes) - min(sizes) < 4


def test_a_number_of_them_goes_into_a_container() -> None:
    picture = drawn("rock", "count:two", "in:basket", **{"in": BLUE})
    # As wide as two, and as high as the part of one that is seen.
    height, width = np.ptp(where(picture, BROWN), axis=0) + 1
    assert width > 1.9 * height


def test_a_face_is_given_to_any_thing() -> None:
    picture = drawn("spoon", "emotion:frowning face", emotion=smiley())
    assert len(where(picture, DARK)) > 20 and not len(where(picture, YELLOW))


@pytest.mark.parametrize("colour", [YELLOW, (120, 190, 60), (60, 130, 240)])
def test_faces_of_smileys_of_any_colour_are_left_behind(colour: Colour) -> None:
    picture = drawn("spoon", "emotion:frowning face", emotion=smiley(colour))
    assert len(where(picture, DARK)) > 20 and not len(where(picture, colour))


def test_a_person_gets_another_face_and_loses_the_own_one() -> None:
    own = smiley((230, 180, 140))
    ImageDraw.Draw(own).ellipse((47, 55, 51, 59), fill=RED)
    found, _ = arrange(part_of("woman"), [Wish("emotion", "frowning face")], "fluent")
    assert found and found.joined[0].part
    picture = put_together(found, {found.subject: own, found.joined[0].part: smiley()})
    assert not len(where(picture, RED)) and len(where(picture, DARK)) > 20


@pytest.mark.parametrize("garment", ["t-shirt", "coat"])
def test_a_head_is_above_its_garment(garment: str) -> None:
    picture = drawn("rock", f"wearing:{garment}", wearing=BLUE)
    assert where(picture, BROWN)[:, 0].mean() < where(picture, BLUE)[:, 0].mean() - 0.2 * SIZE


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("subject", ["spoon", "cat", "penguin", "woman", "grinning face", "eyes"])
def test_every_kind_is_drawn_whole_with_a_white_border(kind: str, subject: str) -> None:
    names = {"colour": "blue", "count": "four", "emotion": "winking face", "place": "night", "weather": "snow"}
    if kind == "colour" and subject == "woman":
        subject = "ghost"
    wish = f"{kind}:{names[kind]}" if kind in names else f"{kind}:helicopter" if kind in ("in", "riding") else kind
    wish = f"{kind}:bell" if kind in ("with", "beside", "on", "and", "on top", "at neck", "on head") else wish
    wish = "wearing:goggles" if kind == "wearing" else wish
    found, _ = arrange(part_of(subject), [Wish(*wish.split(":"))], "noto")
    assert found is not None
    pictures = {part: smiley() if part.role == "face" else disc(BLUE) for part in found.parts}
    picture = np.asarray(put_together(found, pictures))
    rows, columns = np.nonzero((picture < 250).any(-1))
    assert min(rows.min(), columns.min(), SIZE - 1 - rows.max(), SIZE - 1 - columns.max()) in (3, 4, 5)


def test_the_largest_disc_of_a_figure() -> None:
    picture = Image.new("L", (120, 60))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((0, 0, 59, 59), fill=255)
    pen.rectangle((30, 25, 119, 35), fill=255)
    x, y, width = core(np.asarray(picture))
    assert (x, y, width) == pytest.approx((0.25, 0.5, 0.5), abs=0.07)
    assert core(np.zeros((4, 4), np.uint8)) == (0.5, 0.5, 1.0)


def test_only_what_stands_out_in_a_zone_is_painted_over() -> None:
    picture = smiley().convert("RGBA")
    plain = painted_over(picture, [Zone(50 / SIZE, 54 / SIZE, 0.1, 0.12)])
    assert plain.getpixel((50, 54))[:3] == pytest.approx(YELLOW, abs=6)
    assert plain.getpixel((78, 54))[:3] == DARK and plain.getpixel((64, 84))[:3] == DARK


def test_a_mouth_is_taken_from_features_and_eyes_and_tears_stay() -> None:
    features = Image.new("RGBA", (100, 100))
    pen = ImageDraw.Draw(features)
    pen.ellipse((25, 30, 40, 45), fill=(*DARK, 255))
    pen.rectangle((35, 70, 65, 76), fill=(*DARK, 255))
    pen.ellipse((22, 52, 32, 72), fill=(60, 140, 250, 255))
    left = without_mouth(features)
    assert left.getpixel((50, 73))[3] == 0 and left.getpixel((36, 73))[3] == 0
    assert left.getpixel((32, 38))[3] == 255 and left.getpixel((27, 60))[3] == 255


def box_of(picture: Image.Image, colour: Colour) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has a colour."""
    rows, columns = where(picture, colour).T
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def sprite(picture: Image.Image, label: str, role: str | None = None) -> Sprite:
    """The figure of a picture on white, as the drawing of a label."""
    found = Sprite.cut(Sticker(picture).cutout(), "fluent", label, role)
    assert found is not None
    return found


@pytest.mark.parametrize("hat", ["top hat", "crown", "billed cap", "graduation cap", "woman's hat"])
@pytest.mark.parametrize("subject", ["frog", "bear", "owl", "dog face"])
def test_a_hat_ends_above_the_eyes(subject: str, hat: str) -> None:
    figure, item = sprite(disc(BROWN), subject, "animal"), sprite(disc(BLUE), hat)
    body = anchors.body_of(figure)
    assert body is not None and body.eyes is not None
    worn = layouts.wearing([figure, item], hat).layers[-1]
    assert worn.top + worn.height <= body.eyes.y


@pytest.mark.parametrize("subject", ["cat face", "frog", "penguin", "pizza"])
def test_headphones_are_at_the_sides_of_the_face(subject: str) -> None:
    figure, item = sprite(disc(BROWN), subject, part_of(subject).role), sprite(disc(BLUE), "headphone")
    band, head, left, right = layouts.wearing([figure, item], "headphones").layers
    assert head.sprite is figure and band.sprite is item
    middle = head.left + head.width / 2
    assert left.left + left.width < middle - 0.1 and right.left > middle + 0.1


@pytest.mark.parametrize("kind", ["with", "beside"])
@pytest.mark.parametrize("subject", ["pencil", "cat", "pizza"])
def test_what_is_held_or_beside_is_not_larger_than_the_subject(kind: str, subject: str) -> None:
    narrow = Image.new("RGB", (SIZE, SIZE), "white")
    ImageDraw.Draw(narrow).rectangle((60, 10, 76, SIZE - 10), fill=BROWN)
    found, _ = arrange(part_of(subject), [Wish(kind, "dagger")], "fluent")
    assert found is not None
    pictures = {part: narrow if part == found.subject else disc(BLUE) for part in found.parts}
    picture = put_together(found, pictures)
    left, top, right, bottom = box_of(picture, BLUE)
    whole = box_of(picture, BROWN)
    assert (right - left) * (bottom - top) < (whole[2] - whole[0]) * (whole[3] - whole[1])


def test_a_thing_on_the_head_stands_on_it_and_a_bow_is_at_the_neck() -> None:
    bird = drawn("bear", "on head:bird", on_head=BLUE)
    assert box_of(bird, BLUE)[1] < box_of(bird, BROWN)[1]
    bow = drawn("bear", "at neck:ribbon", at_neck=BLUE)
    _, top, _, bottom = box_of(bow, BLUE)
    assert (top + bottom) / 2 > SIZE * 0.6


def test_an_animal_gets_the_mouth_that_tells_of_its_mood_and_keeps_its_smile() -> None:
    bear = sprite(disc(BROWN), "bear", "animal")
    sad, happy = (sprite(smiley(), label, "face") for label in ("frowning face", "slightly smiling face"))
    assert len(prepared("emotion", [bear, sad], "sad")) == 3
    assert len(prepared("emotion", [bear, happy], "happy")) == 2

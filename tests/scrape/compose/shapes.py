"""Plain shapes, and the rows of a dataset that they are in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

BROWN, BLUE, RED, GREY, YELLOW = (120, 70, 30), (30, 60, 220), (220, 30, 30), (150, 150, 150), (250, 200, 60)
SIZE = 64

# The subgroups of the labels that the tests use; anything else is a thing.
SUBGROUPS = {
    "animal-mammal": (
        "pig; cat; elephant; rabbit; dog; cow; bear; panda; unicorn; fox; tiger; lion; monkey; sloth; mouse; horse"
    ),
    "animal-bird": "penguin; duck; baby chick",
    "animal-reptile": "turtle; sauropod; t-rex",
    "animal-marine": "octopus; shark",
    "animal-amphibian": "frog",
    "face-costume": "ghost; robot",
    "face-smiling": "grinning face; slightly smiling face; winking face; grinning squinting face",
    "face-concerned": "frowning face; crying face",
    "face-negative": "angry face",
    "person": "woman; man: beard",
    "transport-ground": "automobile; bicycle; motor scooter; kick scooter; skateboard; tractor",
    "transport-air": "rocket",
    "food-fruit": "red apple; banana; lemon; tomato",
    "food-prepared": "pizza; hamburger; egg; pot of food; bowl with spoon",
    "drink": "hot beverage",
    "plant-other": "cactus; mushroom; empty nest",
}
SUBGROUP = {label: group for group, labels in SUBGROUPS.items() for label in labels.split("; ")}
ACCESSORIES = ("wing", "fire", "red heart", "sparkles", "cloud with rain", "cloud with snow", "cloud")
SMILEYS = ("slightly smiling face", "frowning face", "angry face", "crying face", "winking face")

Build = Callable[..., Path]


def disc(colour: tuple[int, int, int], hole: bool = False) -> Image.Image:
    """A disc as wide as the picture, transparent around it; a white hole in its middle, if asked for."""
    picture = Image.new("RGBA", (SIZE, SIZE))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((0, 0, SIZE - 1, SIZE - 1), (*colour, 255))
    if hole:
        pen.ellipse((SIZE * 0.4, SIZE * 0.4, SIZE * 0.6, SIZE * 0.6), (255, 255, 255, 255))
    return picture


def row(label: str, source: str, skin_tone: str | None = None) -> dict[str, Any]:
    stem = "".join(character if character.isalnum() else "-" for character in f"{label}-{skin_tone or ''}").strip("-")
    return {
        "file_name": f"images/{stem}.png",
        "text": label,
        "label": label,
        "hexcode": stem,
        "subgroup": SUBGROUP.get(label, "household"),
        "skin_tone": [skin_tone] if skin_tone else [],
        "source": source,
        "license": "CC0-1.0",
        "source_file": f"{stem}.svg",
    }

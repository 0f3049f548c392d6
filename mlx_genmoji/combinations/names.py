"""The names of emoji in captions, and the roles in which emoji can be parts of combinations."""

import re

from .emoji_lists import listed

# Unicode's labels that nobody would say -> the everyday name. Two labels may share a name: two looks of one thing.
NAMES = {
    "automobile": "car",
    "baby chick": "chick",
    "beer mug": "mug of beer",
    "billed cap": "cap",
    "bottle with popping cork": "bottle of champagne",
    "bowl with spoon": "bowl",
    "closed book": "book",
    "cloud with rain": "rain cloud",
    "cloud with snow": "snow cloud",
    "cooked rice": "bowl of rice",
    "curry rice": "plate of curry",
    "deciduous tree": "tree",
    "ear of corn": "corn",
    "empty nest": "nest",
    "evergreen tree": "fir tree",
    "fork and knife with plate": "plate",
    "front-facing baby chick": "chick",
    "full moon": "moon",
    "full moon face": "moon with a face",
    "globe showing americas": "earth",
    "globe showing asia-australia": "earth",
    "globe showing europe-africa": "earth",
    "headphone": "headphones",
    "high voltage": "lightning bolt",
    "honeybee": "bee",
    "hot beverage": "cup of coffee",
    "hourglass done": "hourglass",
    "hourglass not done": "hourglass",
    "kick scooter": "scooter",
    "lady beetle": "ladybug",
    "locked": "padlock",
    "magnifying glass tilted left": "magnifying glass",
    "magnifying glass tilted right": "magnifying glass",
    "man: bald": "bald man",
    "man: beard": "bearded man",
    "man: blond hair": "blond man",
    "man: curly hair": "curly-haired man",
    "man: red hair": "red-haired man",
    "man: white hair": "white-haired man",
    "mantelpiece clock": "clock",
    "meat on bone": "meat on a bone",
    "military helmet": "army helmet",
    "package": "parcel",
    "pile of poo": "poo",
    "poultry leg": "chicken leg",
    "rescue worker's helmet": "rescue helmet",
    "person: bald": "bald person",
    "person: beard": "bearded person",
    "person: blond hair": "blond person",
    "person: curly hair": "curly-haired person",
    "person: red hair": "red-haired person",
    "person: white hair": "white-haired person",
    "red apple": "apple",
    "red heart": "heart",
    "red paper lantern": "paper lantern",
    "ribbon": "bow",
    "snowman without snow": "snowman",
    "soft ice cream": "ice cream cone",
    "steaming bowl": "bowl of noodles",
    "star-struck": "star-struck face",
    "sun with face": "sun with a face",
    "sport utility vehicle": "suv",
    "teacup without handle": "cup of tea",
    "unlocked": "open padlock",
    "wastebasket": "trash can",
    "wine glass": "glass of wine",
    "woman's hat": "sun hat",
    "woman: bald": "bald woman",
    "woman: beard": "bearded woman",
    "woman: blond hair": "blond woman",
    "woman: curly hair": "curly-haired woman",
    "woman: red hair": "red-haired woman",
    "woman: white hair": "white-haired woman",
    "wrapped gift": "gift",
    **{f"{animal} face": animal for animal in "monkey dog tiger horse cow pig mouse rabbit dragon cat".split()},
}

# Role of a part -> Unicode's subgroups whose emoji have that role.
ROLES = {
    "animal": (
        "animal-mammal animal-bird animal-amphibian animal-reptile animal-marine animal-bug cat-face monkey-face"
    ).split(),
    "face": (
        "face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell face-hat"
        " face-glasses face-concerned face-negative face-costume"
    ).split(),
    "person": "person person-role person-fantasy".split(),
    "plant": "plant-flower plant-other".split(),
    "food": "food-fruit food-vegetable food-prepared food-asian food-sweet".split(),
    "drink": ["drink"],
    "vehicle": "transport-ground transport-water transport-air".split(),
    "place": "place-building place-geographic place-religious place-other place-map".split(),
    "thing": (
        "sky-weather event award-medal sport game arts-crafts clothing sound music musical-instrument phone computer"
        " light-video book-paper money mail writing office lock tool science medical household other-object dishware"
        " hotel time heart emotion body-parts"
    ).split(),
}

ROLE_OF_SUBGROUP = {subgroup: role for role, subgroups in ROLES.items() for subgroup in subgroups}

# Labels of emoji that are never a part of a combination.
EXCLUDED = frozenset(listed("excluded"))
CLOCK_FACE = re.compile(r"\w+( o'clock|-thirty)")


def name_of(label: str) -> str:
    """The name of an emoji in captions; its label if it has no other."""
    return NAMES.get(label, label)


def role_of(label: str, subgroup: str | None) -> str | None:
    """The role of an emoji as a part of a combination (a key of `ROLES`); None if it cannot be a part.

    subgroup: Unicode's, such as "animal-mammal".
    """
    if label in EXCLUDED or CLOCK_FACE.fullmatch(label):
        return None
    return ROLE_OF_SUBGROUP.get(subgroup or "")

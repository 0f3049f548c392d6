"""The wordings of combinations, as patterns to match a prompt with; and everyday names of emoji.

A pattern is a phrase such as "{x} wearing {y}": {x} is the subject, {xs} its plural, {y} the second part with its
article, {Y} without. Those of `relations.KINDS` also write captions; those here are only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from .relations import KINDS

# Kinds whose phrases are ambiguous ("{x} with {y}"); they are tried after the others.
OPEN = ("count", "with", "and", "on top")

# Phrases that people type and captions do not use: by kind, and by kind and second part.
MORE: Mapping[str, tuple[str, ...]] = {
    "wearing": ("{x} who wears {y}", "{x} has {y}", "{x} in {Y}"),
    "with": ("{x} with {Y}", "{x} eating {y}", "{x} drinking {y}", "{x} playing {y}", "{x} reading {y}"),
    "in": ("{x} sat in {y}", "{x} swimming in {y}", "{x} sleeping in {y}"),
    "on": ("{x} sleeping on {y}", "{x} asleep on {y}", "{x} standing on {y}"),
    "riding": ("{x} in {y}", "{x} driving {y}", "{x} rides {y}", "{x} sitting on {y}", "{x} flying {y}"),
    "fire": ("{x} burning", "fiery {x}", "{x} with flames", "{x} with fire"),
    "hearts": ("{x} with love", "{x} surrounded by love"),
    "sparkles": ("glittering {x}", "glittery {x}", "{x} sparkling", "magic {x}"),
    "colour": ("{Y}-coloured {x}", "{Y} colored {x}", "{x} in {Y}"),
    "emotion": ("{x} that is {Y}", "{x} feeling {Y}", "{x} with a {Y} face", "{x} with an {Y} face"),
    "and": ("{x} & {y}", "{x} plus {y}", "{x} + {y}", "{x}, {y}", "{x} with {y}"),
    "tiny": ("tiny {x} on top of {y}",),
    "on top": ("{x} atop {y}", "{x} sitting on {y}", "{x} sitting on top of {y}"),
}
MORE_OF: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("wings", "wings"): (
        *("{x} that flies", "{x} that can fly", "{x} flying", "{x} with angel wings", "{x} with a pair of wings"),
        *("{x} with big wings", "{x} has wings", "angel {x}"),
    ),
    ("wearing", "sunglasses"): ("cool {x}",),
    ("wearing", "crown"): ("royal {x}", "crowned {x}"),
    ("in", "cup of coffee"): ("{x} in a teacup",),
    ("in", "bathtub"): ("{x} in a bath", "{x} in the bath"),
    ("in", "pot of food"): ("{x} in a pot", "{x} cooking in a pot"),
    ("in", "canoe"): ("{x} in a boat",),
    ("riding", "skateboard"): ("{x} skateboarding", "skateboarding {x}"),
    ("riding", "bicycle"): ("{x} cycling",),
    ("on", "crescent moon"): ("{x} sleeping on the moon", "{x} asleep on the moon"),
    ("weather", "rain cloud"): ("{x} in rain", "{x} when it rains"),
    ("weather", "snow cloud"): ("{x} in snow", "{x} when it snows"),
    ("count", "two"): ("2 {xs}", "couple of {xs}"),
    ("count", "three"): ("3 {xs}", "trio of {xs}"),
    ("emotion", "happy"): ("{x} with a face", "{x} with a smile"),
}

# Synonyms of colours and emotions -> the name in `relations`.
ALSO = {
    **dict.fromkeys(("violet", "lilac"), "purple"),
    **dict.fromkeys(("gold", "golden"), "yellow"),
    **dict.fromkeys(("smiling", "smiley", "cheerful", "joyful", "glad"), "happy"),
    **dict.fromkeys(("unhappy", "gloomy"), "sad"),
    **dict.fromkeys(("mad", "furious", "grumpy"), "angry"),
    **dict.fromkeys(("weeping", "sobbing", "tearful"), "crying"),
    **dict.fromkeys(("shocked", "astonished", "amazed"), "surprised"),
    **dict.fromkeys(("goofy", "crazy"), "silly"),
    "in love": "lovestruck",
    "rainbow-coloured": "rainbow",
}

# Everyday names -> labels, where WordNet and Unicode's tags give another meaning or none.
CALLED = {
    "beer": "beer mug",
    "bike": "bicycle",
    "box": "package",
    "cab": "taxi",
    "cake": "birthday cake",
    "champagne": "bottle with popping cork",
    "cherry": "cherries",
    "coffee": "hot beverage",
    "cup": "hot beverage",
    "dad": "man",
    "dinosaur": "t-rex",
    "doctor": "health worker",
    "flower": "blossom",
    "hat": "top hat",
    "helmet": "rescue worker's helmet",
    "kid": "child",
    "king": "prince",
    "kitten": "cat",
    "knife": "kitchen knife",
    "mom": "woman",
    "mug": "hot beverage",
    "noodles": "steaming bowl",
    "nurse": "health worker",
    "phone": "mobile phone",
    "plane": "airplane",
    "poo": "pile of poo",
    "poop": "pile of poo",
    "pumpkin": "jack-o-lantern",
    "puppy": "dog",
    "queen": "princess",
    "shades": "sunglasses",
    "soda": "cup with straw",
    "spaceship": "rocket",
    "tea": "teacup without handle",
    "tub": "bathtub",
    "ufo": "flying saucer",
    "wine": "wine glass",
    "world": "globe showing europe-africa",
}

# Names of a single thing that look like combinations.
WHOLE = frozenset(
    "angel food cake; black tea; flying fish; flying squirrel; green tea; orange juice; pink panther; rainbow trout;"
    " red panda; red wine; white wine; pair of glasses; pair of sunglasses; pair of scissors; pair of shoes;"
    " pair of jeans; pair of socks; angel fish; fire truck; fire fighter".split("; ")
)

# Words before and after a subject that do not change the picture.
BEFORE = re.compile(
    r"^(?:(?:please|can you|could you|i want|i'd like|give me|show me|draw|make|create|generate|me"
    r"|(?:picture|image|drawing|emoji|genmoji|sticker) of|an?|the|my|some|one|very|really"
    r"|cute|adorable|cartoon|kawaii|single|big|large|huge|giant)\s+)+"
)
AFTER = re.compile(r"(?:[\s,]+(?:emoji|genmoji|sticker|icon|please))+$")

# Words that cannot be an adjective of the noun after them.
NO_ADJECTIVES = frozenset(
    "and with in on at of to for from by under over next beside inside without no not two three 2 3 another other"
    " i you he she it we they is are who that can could".split()
)


@dataclass(frozen=True)
class Phrase:
    """A pattern, split into the text before, between and after its one or two names."""

    kind: str
    """The name of one of `relations.KINDS`."""
    before: str
    between: str | None
    """None for a pattern with one name."""
    after: str
    turned: bool
    """Whether the second part comes before the subject."""
    second: str | None
    """The second part, if the pattern implies it, as "flying {x}" implies wings; else it is in the prompt."""

    @classmethod
    def of(cls, kind: str, phrase: str, second: str) -> Phrase:
        """Split a phrase; second: the second part if the phrase has no place for one."""
        before, *rest = re.split(r"\{(?:xs|x|y|Y)\}", phrase)
        turned = re.match(r"[^{]*\{[yY]\}", phrase) is not None
        named = re.search(r"\{[yY]\}", phrase) is not None
        return cls(kind, before, rest[0] if len(rest) == 2 else None, rest[-1], turned, None if named else second)

    @property
    def fixed_length(self) -> int:
        """The number of characters of the pattern without its names."""
        return len(self.before) + len(self.between or "") + len(self.after)

    def matches(self, text: str) -> Iterator[tuple[str, str]]:
        """All ways to match a text: the subject and the second part ("" if the pattern has no place for one)."""
        if not (text.startswith(self.before) and text.endswith(self.after)):
            return
        middle = text[len(self.before) : len(text) - len(self.after)]
        if self.between is None:
            if middle.strip() and len(self.before) + len(self.after) < len(text):
                yield middle.strip(), ""
            return
        place = middle.find(self.between, 1)
        while place > 0:
            first, second = middle[:place].strip(), middle[place + len(self.between) :].strip()
            if first and second:
                yield (second, first) if self.turned else (first, second)
            place = middle.find(self.between, place + 1)


@cache
def phrases() -> tuple[Phrase, ...]:
    """The patterns of all kinds, those with the longest fixed text first."""
    patterns = [
        *(
            Phrase.of(kind.name, phrase, second)
            for kind in KINDS
            for second, wordings in kind.more.items()
            for phrase in wordings
        ),
        *(Phrase.of(kind.name, phrase, kind.name) for kind in KINDS for phrase in kind.phrases),
        *(Phrase.of(kind, phrase, kind) for kind, wordings in MORE.items() for phrase in wordings),
        *(Phrase.of(kind, phrase, second) for (kind, second), wordings in MORE_OF.items() for phrase in wordings),
    ]
    order = {kind.name: place for place, kind in enumerate(sorted(KINDS, key=lambda kind: kind.name in OPEN))}
    return tuple(sorted(dict.fromkeys(patterns), key=lambda phrase: (-phrase.fixed_length, order[phrase.kind])))

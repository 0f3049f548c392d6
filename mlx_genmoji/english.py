"""English nouns: their plurals, singulars and articles."""

import re

UNCOUNTED = frozenset(
    "glasses; sunglasses; goggles; headphones; french fries; grapes; cherries; blueberries; pancakes; jeans; scissors;"
    " corn; bread; bacon; popcorn; spaghetti; sushi; butter; salt; broccoli; garlic; peanuts; beans; flatbread; soap;"
    " maracas; skis; ice; chains; socks; gloves; shorts; chopsticks; ballet shoes; nesting dolls; prayer beads; books;"
    " santa claus; mrs. claus; mx claus; earth; statue of liberty; tokyo tower; musical notes; yarn; leafy green;"
    " ginger root; dango; oden; green salad; shaved ice; sake; mate; falafel; wings; hearts; sparkles; fire; dna; poo;"
    " custard; fondue; cut of meat; canned food; baguette bread; roll of paper; luggage; shopping bags".split("; ")
)
"""Names that take no article and no number."""

IRREGULAR_PLURALS = {
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "wolf": "wolves",
    "fish": "fish",
    "tropical fish": "tropical fish",
    "deer": "deer",
    "moose": "moose",
    "bison": "bison",
    "shrimp": "shrimps",
    "child": "children",
    "person": "people",
    "tooth": "teeth",
    "fallen leaf": "fallen leaves",
    "maple leaf": "maple leaves",
    "kitchen knife": "kitchen knives",
    "loaf": "loaves",
    "computer mouse": "computer mice",
    "moon with a face": "moons with faces",
    "sun with a face": "suns with faces",
    "meat on a bone": "pieces of meat on a bone",
}
PEOPLE = {"woman": "women", "man": "men", "person": "people"}

SILENT_H = ("hour", "heir", "honest", "honor", "honour")
VOWEL_SOUND = re.compile(rf"[aeiou]|x-ray|{'|'.join(SILENT_H)}", re.IGNORECASE)
CONSONANT_SOUND = re.compile(r"uni|ukul|ufo\b|euro|ewe|one\b", re.IGNORECASE)
"""Words that are written with a vowel and spoken with a consonant: "a unicorn"."""

# The endings of plurals and participles, and what stands in a stem instead of them.
ENDINGS = (("ies", "y"), ("ing", ""), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("oes", "o"), ("s", ""))


def with_article(phrase: str) -> str:
    """`phrase` after its article: "a pig", "an apple", "an hourglass". Uncounted names get none: "sunglasses"."""
    if phrase in UNCOUNTED:
        return phrase
    vowel = VOWEL_SOUND.match(phrase) and not CONSONANT_SOUND.match(phrase)
    return f"{'an' if vowel else 'a'} {phrase}"


def plural(name: str) -> str:
    """The plural of a noun phrase: "mice", "foxes", "cups of coffee", "women artists"."""
    if name in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[name]
    head, of, rest = name.partition(" of ")
    if of:
        return f"{plural(head)}{of}{rest}"
    for person, people in PEOPLE.items():
        if re.search(rf"(^|\W|mer|snow){person}$", name):
            return name.removesuffix(person) + people
        if name.startswith(f"{person} "):
            return f"{people} {plural(name.removeprefix(f'{person} '))}"
    head, joint, rest = re.split(r"( with | without |$)", name, maxsplit=1)
    if joint:
        return f"{plural(head)}{joint}{rest}"
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(s|x|ch|sh|z|tomato|potato)$", name) else f"{name}s"


def singular(word: str) -> str:
    """`word` without a plural's ending, to look it up: "foxes" is "fox". Does not know irregular plurals."""
    return word[:-2] if word.endswith(("ches", "shes", "oes", "xes")) else word.removesuffix("s")


def stem(word: str) -> str:
    """`word` without the ending of a plural or a participle, to compare words: "apples" and "apple" have one stem."""
    for ending, replacement in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)] + replacement
    return word

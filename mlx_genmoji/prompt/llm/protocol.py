"""The exchange with a language model: its instructions and input, the grammar of its answer, and the checks of it.

The model is given a subject and its kind, and adds a line for each field that it is asked for:

    expression: proud
    pose: flapping its wings
    colours: pink and white

Faces, colours, verbs and garments are from the lists of `lexicon.py`; the words around them are free. The grammar keeps
out chatter, marks and other scripts; `fault` then drops each value that repeats or contradicts the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ...english import stem
from ..lexicon import COLOURS, EXPRESSIONS, GARMENTS, POSES, kinds, moods, people_in
from ..parser import Parsed
from ..safety import plain_words, unsafe

INSTRUCTIONS = """\
You help somebody who draws emoji. You are told the subject of a picture and add what is asked for, each on a line of \
its own, in one to five plain words. Choose what suits the subject, what is typical of it, and what can be seen in a \
small picture. The subject stays as it is: do not repeat its words, do not change it, do not explain.

Subject: angry rooster
Kind: animal
Add: pose, wearing, colours
pose: stomping its feet
wearing: a tiny red cap
colours: red and orange

Subject: beekeeper
Kind: person
Add: expression, pose, holding
expression: calm
pose: waving
holding: a honey jar

Subject: onion
Kind: food
Add: expression, colours, pose
expression: tearful
colours: white and purple
pose: rolling on the floor

Subject: exam week
Kind: unknown
Add: expression, pose, colours
expression: exhausted
pose: studying at night
colours: grey and blue

Subject: steam train
Kind: vehicle
Add: expression, colours, pose
expression: determined
colours: black and red
pose: racing through clouds

Subject: crab on holiday
Kind: animal
Add: expression, wearing, colours
expression: relaxed
wearing: a straw hat
colours: red and orange

Now you."""
"""For a model that was not tuned to the task; an adapter may bring its own (`instructions` in adapter_config.json)."""

FIELDS = {
    "person": ("expression", "pose", "holding", "wearing"),
    "animal": ("expression", "pose", "wearing", "colours", "holding"),
    "creature": ("expression", "pose", "wearing", "holding", "colours"),
    "food": ("expression", "colours", "pose", "wearing"),
    "unknown": ("expression", "pose", "colours", "wearing"),
}
OTHER_FIELDS = ("expression", "colours", "pose", "wearing")
"""The fields worth asking for by kind of subject, the most telling first."""

MAX_FIELDS = 3

WORD = "[a-z]([a-z'-]{0,14}[a-z])?"
PATTERNS = {
    "expression": "|".join(word for words in EXPRESSIONS.values() for word in words.split(", ")),
    "colours": f"({'|'.join(COLOURS)})( and ({'|'.join(COLOURS)}))?",
    "pose": f"({'|'.join(POSES)})( {WORD}){{0,4}}",
    "wearing": f"(a |an )?({WORD} ){{0,2}}({'|'.join(GARMENTS)})",
    "holding": f"(a |an |some |two )?{WORD}( {WORD}){{0,2}}",
}

# Words besides the vocabulary's nouns that may be in a pose, or before a garment or a thing to hold.
SMALL_WORDS = set(
    "a an the and with of in on at to for from by its his her their it up down out over under around through into off"
    " along across behind beside near upside high wide open closed one two both three big small little tiny giant huge"
    " long short tall round fluffy cozy warm cool cold hot fresh shiny sparkly bright dark colorful rainbow striped"
    " polka-dot woolly wool knitted leather straw silk wooden paper plastic metal stylish fancy elegant vintage old new"
    " soft cute funny magic royal pointy floppy oversized tropical festive party birthday winter summer cowboy"
    " pirate top"
    " lab hard safety baseball chef's space fast slowly happily proudly gracefully lazily gently quietly loudly"
    " arms arm"
    " hand hands head feet foot legs leg tail wings wing paws paw fins ears eyes toes back belly side tongue tentacles"
    " sky air waves sea ocean clouds cloud wind rain snow grass hill tree trees branch river forest field ground floor"
    " stage table plate bowl bed beach pool park street place circles circle joy music beat hello goodbye steam smoke"
    " bubbles flames sparks light night morning full half empty past brightly watering frying spell pile bunch loaf"
    " cup bottle".split()
)
UNFINISHED = set("a an the and with of in on at to for from by its his her their into over under through".split())
"""No phrase ends with these."""

CHATTER = set("note sure sorry please here subject kind add none nothing emoji picture image unknown example".split())

SKIN = {"skin", "skinned", "skin-tone"}
HAIR_WORDS = set("hair wig bald beard blond blonde ponytail".split())
ASLEEP = {"sleeping", "napping", "snoozing", "dreaming"}


def fields_to_ask(parsed: Parsed) -> tuple[str, ...]:
    """The optional fields that the prompt leaves open and that suit its kind of subject."""
    open_fields = [name for name in FIELDS.get(parsed.category, OTHER_FIELDS) if name not in parsed.mentioned]
    return tuple(open_fields[:MAX_FIELDS])


def question(parsed: Parsed, fields: Iterable[str]) -> str:
    """The model's input for one subject; in plain words, so that no special token reaches it."""
    return f"Subject: {plain_words(parsed.subject)}\nKind: {parsed.category}\nAdd: {', '.join(fields)}"


def answer(values: Mapping[str, str]) -> str:
    """The answer that gives `values`: the target in training."""
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def grammar(fields: Iterable[str]) -> str:
    """The answers that a model may give, in llguidance's Lark."""
    fields = list(fields)
    lines = [f"{name.upper()}: /{name}: ({PATTERNS[name]})/" for name in fields]
    rule = ' "\\n" '.join(name.upper() for name in fields)
    return "\n".join([f"start: {rule}", *lines])


def read_answer(text: str, fields: Iterable[str]) -> dict[str, str]:
    """The complete values of an answer by field, without one that the token budget cut off."""
    values = dict(re.findall(r"^(\w+): (.*)$", text, re.MULTILINE))
    return {name: values[name] for name in fields if re.fullmatch(PATTERNS[name], values.get(name, ""))}


def examples(instructions: str) -> frozenset[str]:
    """The values in the examples of instructions, which a small model repeats for any subject."""
    return frozenset(value for _, value in re.findall(rf"^({'|'.join(PATTERNS)}): (.*)$", instructions, re.MULTILINE))


@dataclass(frozen=True)
class Value:
    """A language model's value of a field, in a prompt and with the other values that it is checked against."""

    field: str
    text: str
    parsed: Parsed
    others: Mapping[str, str]
    copied: Container[str]

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def stems(self) -> list[str]:
        """The stems of its words that have a meaning of their own."""
        return [stem(word) for word in self.words if word not in SMALL_WORDS or word in kinds()]

    def has(self, words: Container[str]) -> bool:
        return any(word in words for word in self.words)

    def unknown_word(self) -> str | None:
        return next((word for word in self.words if not _is_word(word)), None)

    def is_unfinished(self) -> bool:
        return self.words[-1] in UNFINISHED or (self.field == "wearing" and "and" in self.words)

    def word_of_subject(self) -> str | None:
        subject = {stem(word) for word in re.findall(r"[\w'-]+", self.parsed.subject.lower())}
        return min(subject.intersection(self.stems), default=None)

    def repeats_another(self) -> bool:
        words = (word for other in self.others.values() for word in other.split() if word not in SMALL_WORDS)
        return any(stem(word) in self.stems for word in words)

    def cannot_be_held(self) -> bool:
        return self.field == "holding" and not any(kinds().get(stem(word)) or kinds().get(word) for word in self.words)

    def contradicts_expression(self) -> bool:
        """Whether somebody is asleep with a face that is awake."""
        return self.has(ASLEEP) and moods().get(self.others.get("expression", ""), "calm") not in ("calm", "tired")


FAULTS: tuple[tuple[str, Callable[[Value], bool | str | None]], ...] = (
    ("copied from the instructions", lambda value: value.text in value.copied),
    ("unsafe", lambda value: unsafe(value.text) is not None),
    ("chatter", lambda value: value.has(CHATTER)),
    (
        "describes the person, which only the user may do",
        lambda value: any(True for _ in people_in(value.words)) or value.has(SKIN),
    ),
    ("describes the hair, which only the user may do", lambda value: bool(value.parsed.hair) and value.has(HAIR_WORDS)),
    ("not a known word", Value.unknown_word),
    ("unfinished", Value.is_unfinished),
    ("repeats the subject", Value.word_of_subject),
    ("repeats itself", lambda value: len(value.stems) != len(set(value.stems))),
    ("repeats another field", Value.repeats_another),
    ("nothing that can be held", Value.cannot_be_held),
    ("contradicts the expression", Value.contradicts_expression),
)
"""The reasons not to use a value; the first that holds counts. A check that returns a word adds it to the reason."""


def fault(
    name: str, value: str, parsed: Parsed, others: Mapping[str, str], copied: Container[str] = frozenset()
) -> str | None:
    """The reason why a field's value is not used; None if it is fine.

    others: the values of the fields before it that are used; copied: `examples` of the instructions.
    """
    checked = Value(name, value, parsed, others, copied)
    for reason, check in FAULTS:
        if result := check(checked):
            return f"{reason}: {result}" if isinstance(result, str) else reason
    return None


def _is_word(word: str) -> bool:
    known = word in SMALL_WORDS or word in kinds() or stem(word) in kinds()
    return known or word in POSES or word in GARMENTS or word in COLOURS or word in moods()

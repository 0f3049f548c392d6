"""What a language model is asked, the grammar that its answer must have, and which of its answers are used.

It is told the subject and its kind, and adds a line for each field asked for:

    expression: proud
    pose: flapping its wings
    colours: pink and white

Faces and colours, verbs and garments are out of the lists of `lexicon.py`, whatever stands around them is free. The
grammar keeps chatter, marks and other scripts out; `fault` then drops, one by one, what repeats or contradicts a user.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

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
"""Which fields are worth asking for, by the kind of subject, the most telling first."""

MOST_FIELDS = 3

WORD = "[a-z]([a-z'-]{0,14}[a-z])?"
OF = {
    "expression": "|".join(word for words in EXPRESSIONS.values() for word in words.split(", ")),
    "colours": f"({'|'.join(COLOURS)})( and ({'|'.join(COLOURS)}))?",
    "pose": f"({'|'.join(POSES)})( {WORD}){{0,4}}",
    "wearing": f"(a |an )?({WORD} ){{0,2}}({'|'.join(GARMENTS)})",
    "holding": f"(a |an |some |two )?{WORD}( {WORD}){{0,2}}",
}

# Words that are none of the vocabulary's nouns and may stand in a pose, or before what is worn or held.
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
"""What no phrase ends with."""

CHATTER = set("note sure sorry please here subject kind add none nothing emoji picture image unknown example".split())

OF_HAIR = set("hair wig bald beard blond blonde ponytail".split())


def fields_to_ask(parsed: Parsed) -> tuple[str, ...]:
    """The optional fields that the prompt leaves open and that suit its kind of subject."""
    open_fields = [name for name in FIELDS.get(parsed.category, OTHER_FIELDS) if name not in parsed.mentioned]
    return tuple(open_fields[:MOST_FIELDS])


def question(parsed: Parsed, asked: Iterable[str]) -> str:
    """What the model is told of one subject; in plain words, so that no special token reaches it."""
    return f"Subject: {plain_words(parsed.subject)}\nKind: {parsed.category}\nAdd: {', '.join(asked)}"


def answer(values: Mapping[str, str]) -> str:
    """The answer that says `values`: what a tuned model learns to give."""
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def grammar(asked: Iterable[str]) -> str:
    """The answers that a model may give, in llguidance's Lark."""
    lines = [f"{name.upper()}: /{name}: ({OF[name]})/" for name in asked]
    rule = ' "\\n" '.join(name.upper() for name in asked)
    return "\n".join([f"start: {rule}", *lines])


def read_answer(text: str, asked: Iterable[str]) -> dict[str, str]:
    """The fields of an answer that are whole; what a token budget cut off is none."""
    found = dict(re.findall(r"^(\w+): (.*)$", text, re.MULTILINE))
    return {name: found[name] for name in asked if re.fullmatch(OF[name], found.get(name, ""))}


def examples(instructions: str) -> frozenset[str]:
    """What the instructions themselves say of subjects, which is no answer."""
    return frozenset(value for _, value in re.findall(rf"^({'|'.join(OF)}): (.*)$", instructions, re.MULTILINE))


def fault(
    name: str, value: str, parsed: Parsed, others: Mapping[str, str], copied: Container[str] = frozenset()
) -> str | None:
    """Why a field is not used, or None. `others`: the fields before it that are used; `copied`: `examples`."""
    words = value.split()
    if value in copied:
        return "copied from the instructions"
    subject = {stem(word) for word in re.findall(r"[\w'-]+", parsed.subject.lower())}
    content = [stem(word) for word in words if word not in SMALL_WORDS or word in kinds()]
    if unsafe(value):
        return "unsafe"
    if CHATTER & set(words):
        return "chatter"
    if next(people_in(words), None) or {"skin", "skinned", "skin-tone"} & set(words):
        return "speaks of the person, who is the user's"
    if parsed.hair and OF_HAIR & set(words):
        return "speaks of the hair, which is the user's"
    if unknown := [word for word in words if not _is_word(word)]:
        return f"not a word that is known: {unknown[0]}"
    if words[-1] in UNFINISHED or (name == "wearing" and "and" in words):
        return "unfinished"
    if repeated := subject & set(content):
        return f"repeats the subject: {min(repeated)}"
    if len(content) != len(set(content)):
        return "repeats itself"
    if any(stem(word) in content for other in others.values() for word in other.split() if word not in SMALL_WORDS):
        return "repeats another field"
    if name == "holding" and not any(kinds().get(stem(word)) or kinds().get(word) for word in words):
        return "nothing that can be held"
    asleep = {"sleeping", "napping", "snoozing", "dreaming"} & set(words)
    if asleep and moods().get(others.get("expression", ""), "calm") not in ("calm", "tired"):
        return "contradicts the expression"
    return None


def _is_word(word: str) -> bool:
    known = word in SMALL_WORDS or word in kinds() or stem(word) in kinds()
    return known or word in POSES or word in GARMENTS or word in COLOURS or word in moods()

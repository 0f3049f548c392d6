"""From the words of a prompt to what is drawn: a subject, wishes about it, and what was not understood.

A prompt is cut into phrases at the words that join things (`relations.tsv`, verbs that take an object). The first
phrase that names something has the subject: its last noun, or the one that is no role ("squirrel DJ"). Adjectives and
what the other phrases name become wishes: a relation and a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .emoji_row import settle_row
from .lexicon import Lexicon, Meanings, Noun
from .scene import Scene
from .settling import deny, move_to_body, settle_denied, settle_hands
from .tokens import Token, is_alive, names_something, takes_object, tokenize

MEASURES = frozenset(
    "bag ball bottle bowl box bunch can cup glass group head jar kind loaf mug pack pair piece pile plate pot scoop"
    " slice sort stack".split()
)
"""Words before "of" that only say how much of a thing there is: a slice of pizza is a pizza."""


@dataclass
class Phrase:
    """Words up to the next relation. verb: the words of the relation, reported where nothing follows it."""

    relation: str = ""
    verb: str = ""
    alone: tuple[str, str] | None = None
    """The wish that the verb is where nothing follows it."""
    tokens: list[Token] = field(default_factory=list)
    negated: bool = False
    kind: str = ""
    """How a thing at a part of the body is joined."""


def understand(text: str, lexicon: Lexicon) -> Scene:
    """What a prompt asks for."""
    scene = _understand(text, lexicon)
    return scene if scene.subject is not None else _understand(text, lexicon, generous=True)


def _understand(text: str, lexicon: Lexicon, generous: bool = False) -> Scene:
    scene = Scene()
    tokens = tokenize(text, lexicon, generous)
    scene.read_as = [
        (token.text, token.meanings.read_as) for token in tokens if token.meanings and token.meanings.read_as
    ]
    phrases = _phrases(tokens, scene)
    for place, phrase in enumerate(phrases):
        if phrase.negated:
            deny(phrase.tokens, scene)
            continue
        if phrase.relation == "body":
            move_to_body(phrase.verb, phrase.kind, scene)
            if not phrase.tokens:
                continue
        _read(phrase, phrases[place - 1].relation if place else "", scene, lexicon)
        if place == 0 and scene.subject is None and phrase.tokens:
            _settle_face(scene)
    _settle(scene, tokens)
    settle_hands(scene, tokens, lexicon)
    settle_row(scene, lexicon)
    settle_denied(scene, lexicon)
    return scene


def _phrases(tokens: Sequence[Token], scene: Scene) -> list[Phrase]:
    phrases = [Phrase()]
    named = False
    for token in tokens:
        meanings = token.meanings if not named else _as_verb(token.meanings)
        token = Token(token.text, meanings)
        named = named or names_something(token)
        if meanings is None and named and token.text.endswith("ing"):
            # An unknown verb joins what follows it, too.
            scene.unknown.append(token.text)
            phrases.append(Phrase("beside"))
        elif meanings is None:
            phrases[-1].tokens.append(token)
        elif meanings.body_place and named:
            phrases.append(Phrase("body", token.text, kind=meanings.body_place))
        elif meanings.negation:
            phrases.append(Phrase("", token.text, negated=True))
        elif meanings.place:
            phrases.append(Phrase("place", token.text, tokens=[token]))
        elif meanings.verb and takes_object(meanings) and not (meanings.look and not _has_nouns(phrases)):
            phrases.append(Phrase(meanings.verb[0], token.text, meanings.alone))
        elif meanings.relation and not meanings.noun:
            if meanings.relation == "of" and phrases[-1].tokens:
                if phrases[-1].tokens[-1].text in MEASURES:
                    phrases[-1].tokens.pop()
                continue
            phrases.append(Phrase(meanings.relation))
        else:
            phrases[-1].tokens.append(token)
    return phrases


def _has_nouns(phrases: Sequence[Phrase]) -> bool:
    """Whether something is named already: a verb before it is its adjective, "flying pig wearing a hat"."""
    return any(names_something(token) for phrase in phrases for token in phrase.tokens)


def _as_verb(meanings: Meanings | None) -> Meanings | None:
    """After a noun, what is a verb as well as a noun is a verb: "fox reading"."""
    if meanings is None or meanings.noun is None or not (meanings.verb or meanings.mood):
        return meanings
    return replace(meanings, noun=None)


def _read(phrase: Phrase, before: str, scene: Scene, lexicon: Lexicon) -> None:
    """Take the subject or wishes from a phrase. before: the relation of the phrase before it."""
    relation = "" if phrase.relation == "body" else phrase.relation
    if relation == "place":
        meanings = phrase.tokens[0].meanings
        assert meanings is not None and meanings.place is not None
        scene.wish(*meanings.place)
        _note_stand_in(meanings, scene)
        rest = phrase.tokens[1:]
        phrase, relation = Phrase(tokens=rest), ""
        if not rest:
            return
    if relation in (",", "and", ""):
        relation = before if before in ("wearing", "with") and scene.subject else relation
    nouns = _adjectives(phrase, scene, first=scene.subject is None)
    if phrase.alone and scene.subject is None and (not nouns or is_alive(nouns[-1])):
        # "Reading bear": what follows is who does it.
        scene.wish(*phrase.alone)
    if relation == "role" and _as_role(nouns, scene):
        return
    if scene.subject is None:
        _subject(nouns, scene, lexicon)
        return
    if not nouns:
        if phrase.alone:
            scene.wish(*phrase.alone)
        elif phrase.verb and not phrase.tokens and relation not in ("role", ""):
            scene.unknown.append(phrase.verb)
        return
    for token in nouns:
        _object(relation, token, scene)


def _adjectives(phrase: Phrase, scene: Scene, first: bool) -> list[Token]:
    """The nouns of a phrase, once its adjectives, verbs and unknown words were taken from it.

    first: whether they are about the subject; adjectives of other things are reported, as these are drawn as they are.
    """
    nouns: list[Token] = []
    for place, token in enumerate(phrase.tokens):
        meanings = token.meanings
        follows = any(names_something(later) for later in phrase.tokens[place + 1 :])
        if meanings is None:
            scene.unknown.append(token.text)
        elif meanings.hair and (not meanings.noun or not follows):
            scene.hair = meanings.hair
            _note_stand_in(meanings, scene)
        elif meanings.number and follows:
            if first:
                scene.wish("count", {2: "two", 3: "three"}.get(meanings.number, "four"))
                if meanings.number > 4:
                    scene.unknown.append(token.text)
            else:
                label = _label_after(phrase.tokens[place + 1 :])
                if label:
                    scene.single.append((token.text, label))
        elif meanings.mood and (not meanings.noun or follows or (not first and scene.subject)):
            moods = [wish.label for wish in scene.wishes if wish.kind == "emotion"]
            if moods and meanings.mood not in moods:
                scene.unknown.append(token.text)
            if meanings.mood not in moods:
                scene.wish("emotion", meanings.mood)
        elif meanings.look and (not meanings.noun or follows):
            _look(token, meanings.look, scene, about_subject=first)
        elif meanings.verb and meanings.verb[1] and not meanings.noun:
            scene.wish(*meanings.verb)
            _note_stand_in(meanings, scene)
        elif meanings.verb and not meanings.noun:
            scene.unknown.append(token.text)
        elif names_something(token):
            nouns.append(token)
    return nouns


def _label_after(tokens: Sequence[Token]) -> str:
    """The label of the first noun or garment of some tokens; "" where there is none."""
    for token in tokens:
        noun = token.meanings and (token.meanings.noun or token.meanings.garment)
        if noun:
            return noun.label
    return ""


def _note_stand_in(meanings: Meanings, scene: Scene) -> None:
    """Report a thing that a phrase names, where another one is drawn instead of it."""
    if meanings.stand_in and meanings.stand_in not in scene.nearest:
        scene.nearest.append(meanings.stand_in)


def _look(token: Token, look: str, scene: Scene, about_subject: bool) -> None:
    if look == "none":
        return
    if look == "leave" or (not about_subject and look not in ("tiny", "giant")):
        scene.unknown.append(token.text)
        return
    if about_subject:
        kind, _, label = look.partition(":")
        scene.wish(kind, label)


def _subject(nouns: Sequence[Token], scene: Scene, lexicon: Lexicon) -> None:
    """The subject among the nouns of the first phrase; roles and further nouns are wishes."""
    named = [token for token in nouns if token.meanings and token.meanings.noun]
    if not named:
        for token in nouns:
            garment = token.meanings.garment if token.meanings else None
            if garment and scene.subject is None:
                # Nobody wears it: it is the thing itself.
                scene.subject, scene.subject_words = garment.label, token.text
                _note(token.text, garment, scene)
            else:
                _as_role([token], scene)
        return
    together = _compound(named, lexicon)
    if together is not None:
        scene.subject, scene.subject_words = together, " ".join(token.text for token in named)
        scene.nearest += [(child, together) for child in ("boy", "girl") if child in scene.subject_words.split()]
        return
    candidates = [token for token in named if not token.meanings.roles] or named  # type: ignore[union-attr]
    doers = [token for token in candidates if not _is_activity(token)]
    head = (doers or candidates)[-1]
    _draw(head, scene)
    for token in nouns:
        if token is head:
            continue
        if doers and _is_activity(token):
            scene.unknown.append(token.text)
        elif token.meanings and token.meanings.roles:
            _as_role([token], scene)
        else:
            _object("beside", token, scene)


def _compound(named: Sequence[Token], lexicon: Lexicon) -> str | None:
    """The label that two nouns make together: "firefighter woman" is "woman firefighter".

    Somebody who does something is one label too: "woman doing yoga" is "woman in lotus position".
    """
    if len(named) != 2:
        return None
    labels = [token.meanings.noun.label for token in named]  # type: ignore[union-attr]
    forms = [f"{labels[0]} {labels[1]}", f"{labels[1]} {labels[0]}"]
    for label, other in (labels, labels[::-1]):
        doing = other.removeprefix("person ")
        who = {"boy": "man", "girl": "woman"}.get(label, label)
        if who in ("man", "woman", "person") and doing != other:
            forms.append(f"{who} {doing}")
    return next((form for form in forms if form in lexicon.vocabulary), None)


def _is_activity(token: Token) -> bool:
    """Whether a noun is what a person does, such as yoga, whose label is "person in lotus position"."""
    return (
        token.meanings is not None
        and token.meanings.noun is not None
        and token.meanings.noun.label.startswith("person ")
    )


def _draw(token: Token, scene: Scene) -> None:
    noun = token.meanings.noun  # type: ignore[union-attr]
    assert noun is not None
    scene.subject, scene.subject_words = noun.label, token.text
    _note(token.text, noun, scene)


def _note(text: str, noun: Noun, scene: Scene) -> None:
    if not noun.exact:
        scene.nearest.append((text, noun.label))
    if noun.extra:
        kind, _, label = noun.extra.partition(":")
        scene.wish(
            {"look": label.partition(":")[0] or kind, "mood": "emotion"}.get(kind, kind),
            label.partition(":")[2] or label,
        )


def _as_role(nouns: Sequence[Token], scene: Scene) -> bool:
    """Dress the subject as what is named: "cowboy frog", "as a wizard". False where it is no role."""
    roles = [role for token in nouns if token.meanings for role in token.meanings.roles]
    for relation, label in roles:
        scene.wish(relation, label)
    for token in nouns:
        if token.meanings and token.meanings.roles:
            _note_stand_in(token.meanings, scene)
    return bool(roles)


def _object(relation: str, token: Token, scene: Scene) -> None:
    """A further thing, in its relation to the subject."""
    meanings = token.meanings
    assert meanings is not None
    garment = meanings.garment
    if garment and relation in ("wearing", "with", "in", "and", ",", "", "has", "beside"):
        if not garment.exact:
            scene.nearest.append((token.text, garment.label))
        scene.wish("at neck" if garment.extra == "neck" else "wearing", garment.label)
        return
    noun = meanings.noun
    if noun is None:
        if not _as_role([token], scene):
            scene.unknown.append(token.text)
        return
    if not noun.exact:
        scene.nearest.append((token.text, noun.label))
    kind = {"": "beside", ",": "and", "of": "beside", "role": "beside"}.get(relation, relation)
    scene.wish(kind, noun.label)


def _settle_face(scene: Scene) -> None:
    """A feeling without anybody who has it is its smiley: "smiley face wearing sunglasses"."""
    for wish in scene.wishes:
        if wish.kind == "emotion":
            scene.subject = wish.label
            scene.wishes.remove(wish)
            return


def _settle(scene: Scene, tokens: Sequence[Token]) -> None:
    """A feeling alone is its smiley; what has no subject takes the first thing that is named."""
    if scene.subject is not None:
        return
    for place, wish in enumerate(scene.wishes):
        if wish.label and wish.kind in ("emotion", "wearing", "with", "beside", "and", "in", "on"):
            scene.subject = wish.label
            del scene.wishes[place]
            return

"""The order of words in Japanese, Korean and Chinese, where what is said of a noun stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .language_tables import PHRASE
from .word_order import NOUNS, PLACES, WORN, Token, in_words

RIDES = frozenset(("riding", "sitting on", "driving", "sleeping in"))
"""Verbs whose object Japanese and Korean mark as a place."""

_CLAUSE_STARTS = frozenset(("verb", "loc", "with", "without", "state"))


@dataclass
class _Phrase:
    """A noun, what stands before it, and what is said after it in English."""

    before: list[Token] = field(default_factory=list)
    nouns: list[Token] = field(default_factory=list)
    after: list[Token] = field(default_factory=list)

    @property
    def words(self) -> list[Token]:
        return [*self.before, *self.nouns, *self.after]


def _joint(english: str, kind: str = "prep") -> Token:
    return Token(english, kind, "")


class _Sentence:
    """Reads a sentence whose verb is last, word by word."""

    def __init__(self) -> None:
        self.done: list[Token] = []
        """Phrases that are complete, with "and" after each."""
        self.subject: _Phrase | None = None
        self.object: _Phrase | None = None
        self.phrase = _Phrase()
        self.places: list[tuple[str, _Phrase]] = []
        self.clauses: list[Token] = []
        """What is said before the noun that it is said of."""
        self.joint: Token | None = None
        """"of", "with" or "without", after the phrase `joined`."""
        self.joined: _Phrase | None = None

    def take(self) -> _Phrase | None:
        """The phrase that has been read, and start a new one; None where there is none."""
        phrase, self.phrase = self.phrase, _Phrase(before=[] if self.phrase.nouns else self.phrase.before)
        return phrase if phrase.nouns else None

    def noun(self, token: Token) -> None:
        self.phrase.nouns.append(token)
        if self.joined is not None and self.joint is not None:
            head, last = self.joined, self.joined.nouns[-1]
            if last.kind == PHRASE:
                self.phrase.after += head.words
            elif self.joint.english != "of":
                self.phrase.after += [self.joint, *head.words]
            elif last.english in WORN:
                self.phrase.after += [_joint("with"), *head.words]
            elif last.english in PLACES:
                self.phrase.after += [_joint("in"), *head.words]
            else:
                self.phrase.nouns[:0] = [*head.before, *head.nouns]
                self.phrase.after += head.after
            self.joint = self.joined = None
        if self.object is not None or self.places:
            self.place_clauses()
        self.phrase.after += self.clauses
        self.clauses = []

    def place_clauses(self) -> None:
        """Places and an object without a verb: "ベッドの上の猫"."""
        for english, phrase in self.places:
            joint = [] if phrase.nouns[-1].kind == PHRASE else [_joint(english)]
            self.clauses += [*joint, *phrase.words]
        if self.object is not None:
            self.clauses += [_joint("with"), *self.object.words]
        self.places, self.object = [], None

    def verb(self, token: Token) -> None:
        bare = None if self.object is not None else self.take()
        target = self.object or bare
        if target is None and token.english in RIDES and self.places:
            target = self.places.pop()[1]
        if target is None and self.joined is not None:
            target, self.joint, self.joined = self.joined, None, None
        self.object = None
        clause = [token, *(target.words if target else [])]
        self.place_clauses()
        self.clauses[:0] = clause

    def state(self, token: Token) -> None:
        if (bare := self.take()) is not None and self.subject is None:
            self.subject = bare
        if not self.places and self.subject is None:
            self.phrase.before.append(token)
            return
        self.place_clauses()
        self.clauses[:0] = [token]

    def join(self, english: str) -> None:
        phrase = self.take()
        if phrase is not None:
            if phrase.nouns[-1].english in WORN:
                self.gather(phrase)
            self.joint, self.joined = _joint(english), phrase

    def gather(self, phrase: _Phrase) -> None:
        """Put what was joined by "and" so far before a phrase: "帽子とサングラスの犬" has on both."""
        if self.subject is None:
            phrase.before[:0] = self.done
            self.done = []

    def finish(self) -> list[Token]:
        rest = self.take()
        left = self.phrase.before
        if self.places or self.object is not None:
            self.place_clauses()
        output = list(self.done)
        if self.subject is not None:
            output += [*left, *self.subject.words]
            left = []
        if self.joined is not None:
            output += self.joined.words
        if rest is not None:
            output += rest.words
        return [*output, *left, *self.clauses]


def japanese_or_korean(tokens: Sequence[Token]) -> str:
    """The English of a sentence whose modifiers come first: "ピザを食べるティラノサウルス" is a t-rex eating pizza."""
    sentence = _Sentence()
    for token in tokens:
        _read(sentence, token)
    return in_words(sentence.finish())


def _read(sentence: _Sentence, token: Token) -> None:
    kind = token.kind
    if kind in NOUNS or kind == PHRASE:
        sentence.noun(token)
    elif kind in ("adj", "number"):
        if sentence.phrase.nouns and kind == "adj":
            _subject(sentence)
        sentence.phrase.before.append(token)
    elif kind == "verb":
        sentence.verb(token)
    elif kind == "state":
        sentence.state(token)
    elif kind == "obj":
        if (phrase := sentence.take()) is not None:
            sentence.gather(phrase)
            sentence.object = phrase
    elif kind == "subj":
        _subject(sentence)
    elif kind in ("loc", "pos"):
        if (phrase := sentence.take()) is not None:
            sentence.places.append((token.english, phrase))
    elif kind == "of":
        sentence.join("of")
    elif kind == "with" or token.english == "without":
        sentence.join(token.english)
    elif kind == "prep":
        if (phrase := sentence.take()) is not None:
            sentence.places.append((token.english, phrase))
    elif kind in ("and", ",") and (phrase := sentence.take()) is not None:
        sentence.done += [*phrase.words, _joint("and", "and")]


def _subject(sentence: _Sentence) -> None:
    phrase = sentence.take()
    if phrase is not None:
        if sentence.subject is not None:
            sentence.done += [*sentence.subject.words, _joint("and", "and")]
        sentence.subject = phrase


def chinese(tokens: Sequence[Token]) -> str:
    """The English of a Chinese prompt: "一只戴墨镜的猫" is a cat wearing sunglasses."""
    words = [token for token in tokens if token.kind not in ("drop", "obj")]
    words = _where(words)
    while (index := next((i for i, token in enumerate(words) if token.kind == "de"), None)) is not None:
        words = _after_its_noun(words, index)
    return in_words(words)


def _where(words: list[Token]) -> list[Token]:
    """The words with "on" and "in" before their noun: "在月球上" is "on crescent moon"; no "在" before a verb."""
    output: list[Token] = []
    place = None
    for index, token in enumerate(words):
        following = words[index + 1].kind if index + 1 < len(words) else ""
        if token.kind == "loc":
            if following in ("verb", "state", ""):
                continue
            place = len(output)
            output.append(token)
        elif token.kind == "pos":
            if place is not None:
                output[place] = Token(token.english, "loc", token.source)
                place = None
            elif output and output[-1].kind in NOUNS:
                output.insert(len(output) - 1, Token(token.english, "loc", token.source))
        elif token.kind == PHRASE and place is not None and place == len(output) - 1:
            output[place] = token
            place = None
        else:
            output.append(token)
    return output


def _after_its_noun(words: list[Token], index: int) -> list[Token]:
    """The words without the 的 at `index`, and what it joins to the next noun in the English order."""
    before, after = words[:index], words[index + 1 :]
    head = 0
    while head < len(after) and after[head].kind in ("adj", "number", "state"):
        head += 1
    while head < len(after) and after[head].kind in NOUNS:
        head += 1
    noun, rest = after[:head], after[head:]
    if not before or not noun or before[-1].kind in ("adj", "number"):
        return [*before, *after]
    start = _clause_start(before)
    subject = start > 0 and before[start - 1].kind in NOUNS
    clause = before[start:]
    if start == len(before) or subject:
        return _of(before, noun, rest)
    if all(token.kind in ("state", "adj") for token in clause):
        return [*before, *after]
    return [*before[:start], *noun, *clause, *rest]


def _of(before: list[Token], noun: list[Token], rest: list[Token]) -> list[Token]:
    """A noun, 的, a noun: "海盗的帽子" is a pirate hat, "墨镜的猫" a cat with sunglasses."""
    owner = before[-1]
    if owner.kind == PHRASE:
        return [*before[:-1], *noun, owner, *rest]
    if owner.english in WORN or owner.english in PLACES:
        joint = _joint("with" if owner.english in WORN else "in")
        return [*before[:-1], *noun, joint, owner, *rest]
    return [*before, *noun, *rest]


def _clause_start(words: Sequence[Token]) -> int:
    """Where the clause that ends `words` starts: at the first of its verbs and places; after them if it has none."""
    start = len(words)
    for index in range(len(words) - 1, -1, -1):
        kind = words[index].kind
        if kind in _CLAUSE_STARTS or words[index].english == "without" or kind == PHRASE:
            start = index
            continue
        subject = kind in NOUNS and start == index + 1 and (not index or words[index - 1].kind != "loc")
        if start < len(words) and (kind == "and" or subject):
            break
    return start

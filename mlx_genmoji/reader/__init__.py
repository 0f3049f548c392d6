"""Reading a prompt, once, into one structure (`reading.Reading`) that every later step takes.

A model's form decides how: `open_form` for models that take any text, `closed_form` for models whose folder declares
what they draw (`vocabulary`). `lexicon` looks words up in the tables of `tables/`, `grammar` makes a scene of them.
"""

from __future__ import annotations

from ..checkpoint.defaults import Defaults
from ..families.base import Family
from ..lora.active import Adapters
from ..prompt.words import Words
from .open_form import OpenReader
from .vocabulary import Vocabulary


def make_reader(
    family: Family, defaults: Defaults, words: Words, adapters: Adapters, vocabulary: Vocabulary | None
) -> OpenReader:
    """The reader for a model. vocabulary: what it draws, if that is a closed list."""
    if vocabulary is None:
        return OpenReader(family, defaults, words, adapters)
    from .closed_form import ClosedReader

    return ClosedReader(family, defaults, words, adapters, vocabulary)

"""Makes `reader/tables/real-words.txt`: the English words that the built-in model's reader would take for misspellings.

    python -m scrape.real_words /usr/share/dict/american-english

The list of words is SCOWL's, which Debian has as the package `wamerican` and whose licence lets everybody use, copy and
sell it. Only the words that are spelled like one that the reader knows are kept. To be run again when the reader's
tables get many new words.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.prompt.words import Words
from mlx_genmoji.reader.lexicon import TABLES, Lexicon, rows
from mlx_genmoji.reader.spelling import nearest_spelling
from mlx_genmoji.reader.vocabulary import Vocabulary

TABLE = TABLES / "real-words.txt"
HEADER = "# English words that are spelled like a known one and mean something else (SCOWL; scrape/real_words.py)\n"


def real_words(words: list[str]) -> list[str]:
    """The words, in lower case, that the reader would correct if it did not know that they are real."""
    vocabulary = Vocabulary.load(BUILTIN)
    assert vocabulary is not None
    lexicon = Lexicon(vocabulary, Words.load(BUILTIN))
    known = {word for phrase in lexicon.entries for word in phrase}
    misspelled = {typed[0] for typed in lexicon.misspellings if len(typed) == 1}
    # Parts of the phrases that the tables have are real words too: "pregnant woman".
    candidates = {word.lower() for word in (*words, *known) if word.isascii() and word.isalpha()}
    english = {word for (word,) in rows("english.txt")}
    return sorted(
        word
        for word in candidates - misspelled - english
        if lexicon.longest([word], 0) is None and nearest_spelling(word, lexicon.spellings)
    )


def main() -> None:
    words = real_words(Path(sys.argv[1]).read_text("utf-8").split())
    TABLE.write_text(HEADER + "".join(f"{word}\n" for word in words), "utf-8")


if __name__ == "__main__":
    main()

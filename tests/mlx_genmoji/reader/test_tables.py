"""The tables of the reader: what a person may add a row to."""

import pytest

from mlx_genmoji.combinations.relations import COLOURS, MORE_COLOURS
from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.reader.lexicon import key, rows
from mlx_genmoji.reader.vocabulary import Vocabulary

RELATIONS = {"with", "wearing", "riding", "in", "on", "on top", "and", "beside", "place", "weather", "emotion", "hands"}
LOOKS = {"fire", "sparkles", "hearts", "wings", "tiny", "giant", "frozen", "none", "leave"}
PLACES = {"space", "night", "beach", "underwater", "bed", "rain cloud", "snow cloud"}
TABLES = (
    "nouns",
    "nouns-more",
    "garments",
    "moods",
    "verbs",
    "verbs-alone",
    "looks",
    "places",
    "relations",
    "numbers",
    "hair",
    "misspellings",
    "body-places",
    "countries",
    "drawn-names",
    "drawn-with",
)
NOUNS = ("nouns", "nouns-more")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    loaded = Vocabulary.load(BUILTIN)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("name", TABLES)
def test_a_phrase_stands_once_in_a_table(name: str) -> None:
    phrases = [row[0] for row in rows(f"{name}.tsv")]
    assert len(phrases) > 5 and len(set(phrases)) == len(phrases)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("nouns", 1),
        ("nouns-more", 1),
        ("garments", 1),
        ("moods", 1),
        ("roles", 2),
        ("drawn-names", 0),
        ("drawn-with", 0),
    ],
)
def test_every_label_is_one_that_the_model_draws(name: str, column: int, vocabulary: Vocabulary) -> None:
    labels = {row[column] for row in rows(f"{name}.tsv")} - {""}
    assert sorted(label for label in labels if label not in vocabulary and label not in PLACES) == []


@pytest.mark.parametrize("name", NOUNS)
def test_nouns_are_the_same_or_near_and_their_extras_are_looks_or_moods(name: str) -> None:
    for _, _, exact, *extra in rows(f"{name}.tsv"):
        assert exact in ("=", "~")
        for kind, _, value in (item.partition(":") for item in extra):
            assert kind in ("look", "mood") and value


@pytest.mark.parametrize("name", ["verbs", "verbs-alone", "places", "roles"])
def test_relations_are_known(name: str) -> None:
    known = RELATIONS | {"fire", "wings", "sparkles", "hearts"}
    assert {row[1] for row in rows(f"{name}.tsv")} <= known


def test_looks_are_colours_that_can_be_drawn_or_known_effects() -> None:
    for _, look in rows("looks.tsv"):
        kind, _, colour = look.partition(":")
        assert (kind == "colour" and colour in (*COLOURS, *MORE_COLOURS)) or look in LOOKS


@pytest.mark.parametrize("table", NOUNS)
def test_no_name_hides_a_label(table: str, vocabulary: Vocabulary) -> None:
    labels = {key(label) for label in vocabulary.labels}
    assert [name for name, *_ in rows(f"{table}.tsv") if key(name) in labels and name not in vocabulary] == []


def test_the_second_table_of_nouns_repeats_nothing_of_the_first() -> None:
    first = {key(name) for name, *_ in rows("nouns.tsv")}
    assert [name for name, *_ in rows("nouns-more.tsv") if key(name) in first] == []


@pytest.mark.parametrize("name", TABLES)
def test_phrases_are_in_lower_case(name: str) -> None:
    assert [row[0] for row in rows(f"{name}.tsv") if row[0] != row[0].lower()] == []


def test_labels_of_verbs_are_drawn(vocabulary: Vocabulary) -> None:
    labels = {row[2] for row in rows("verbs.tsv") if len(row) > 2 and row[2] and row[1] not in ("place", "weather")}
    assert sorted(label for label in labels if label not in vocabulary) == []


@pytest.mark.parametrize(("name", "column"), [("places", 3), ("verbs", 3), ("roles", 3), ("hair", 2)])
def test_what_stands_in_is_drawn_and_is_not_the_thing_itself(name: str, column: int, vocabulary: Vocabulary) -> None:
    replaced = [(row[column], row[column - 1]) for row in rows(f"{name}.tsv") if len(row) > column]
    assert len(replaced) > 3 and all(thing and key(thing) != key(label) for thing, label in replaced)


def test_places_on_the_body_are_kinds_of_combinations() -> None:
    assert {kind for _, kind in rows("body-places.tsv")} <= {"on head", "at neck", "with", "beside", "wearing"}

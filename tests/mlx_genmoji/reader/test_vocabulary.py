"""A model's closed vocabulary: the captions that it was trained on, and no others."""

from pathlib import Path

import pytest

from mlx_genmoji import UserError
from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.reader.vocabulary import FILE, Vocabulary, write_vocabulary

ROWS = [
    {"text": "pig", "skin_tone": [], "source": "fluent"},
    {"text": "pig", "skin_tone": [], "source": "noto"},
    {"text": "harp", "skin_tone": [], "source": "noto"},
    {"text": "hand", "skin_tone": [], "source": "fluent"},
    {"text": "hand, dark skin tone", "skin_tone": ["dark"], "source": "fluent"},
    {"text": "couple, dark and light skin tones", "skin_tone": ["dark", "light"], "source": "noto"},
]
STYLES = {"fluent": "3d", "noto": "flat"}


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    write_vocabulary(tmp_path, ROWS, STYLES)
    loaded = Vocabulary.load(tmp_path)
    assert loaded is not None
    return loaded


def test_what_is_written_is_read_again(vocabulary: Vocabulary) -> None:
    assert list(vocabulary.labels) == ["hand", "harp", "pig"]
    assert set(vocabulary.styles) == {"3d", "flat"}


@pytest.mark.parametrize(
    ("label", "style", "skin_tone", "caption"),
    [
        ("pig", "3d", None, "pig, 3d"),
        ("pig", "flat", "dark", "pig, flat"),
        ("harp", "3d", None, "harp, flat"),
        ("hand", "3d", "dark", "hand, dark skin tone, 3d"),
        ("hand", "3d", "light", "hand, 3d"),
    ],
)
def test_a_caption_is_always_one_that_was_trained(
    label: str, style: str, skin_tone: str | None, caption: str, vocabulary: Vocabulary
) -> None:
    assert vocabulary.caption(label, style, skin_tone) == caption
    assert vocabulary.knows(caption)


@pytest.mark.parametrize(
    "caption", ["pigs, 3d", "harp, 3d", "hand, light skin tone, 3d", "hand, dark skin tone, flat", "pig", ", 3d", ""]
)
def test_other_captions_are_not_known(caption: str, vocabulary: Vocabulary) -> None:
    assert not vocabulary.knows(caption)


def test_a_folder_without_the_file_has_no_vocabulary(tmp_path: Path) -> None:
    assert Vocabulary.load(tmp_path) is None


@pytest.mark.parametrize("text", ["pig\n", "pig\t3d:9\n", "\t3d\n", "pig\t3d:x\n"])
def test_a_damaged_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=FILE):
        Vocabulary.load(tmp_path)


def test_the_built_in_model_declares_6289_captions() -> None:
    vocabulary = Vocabulary.load(BUILTIN)
    assert vocabulary is not None
    captions = [
        caption
        for label, styles in vocabulary.labels.items()
        for style, tones in styles.items()
        for caption in (f"{label}, {style}", *(f"{label}, {tone} skin tone, {style}" for tone in tones))
    ]
    assert len(set(captions)) == 6289 and all(map(vocabulary.knows, captions))

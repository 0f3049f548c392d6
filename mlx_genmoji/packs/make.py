"""A pack from a subject: draws its stickers, each once, and writes the folders of the messengers.

FOLDER/pack.json          what was drawn, by which model: a pack that is made again goes on where it stopped
FOLDER/stickers/*.png     the drawings on white, each with its recipe
FOLDER/contact-sheet.png
FOLDER/telegram/...       what the messenger's importer takes (`messengers`)
"""

from __future__ import annotations

import io
import secrets
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Cancelled, UserError, quoted
from ..files import read_json, whole_folder, write_bytes, write_json
from ..pictures import UNREADABLE
from ..pipeline import Genmoji
from ..prompt.safety import clean
from ..sticker import Sticker, read_recipe
from ..sticker.targets import trimmed
from .messengers import MESSENGERS, Figure, Metadata, ascii_slug, messengers_named
from .moods import Mood, moods_named
from .sheet import contact_sheet

PACK_FILE = "pack.json"
STICKERS = "stickers"
SHEET = "contact-sheet.png"
FORMAT = 1
"""Of pack.json."""

AUTHOR = "genmoji"


@dataclass(frozen=True)
class Progress:
    """How far a pack is."""

    mood: str
    done: int
    """How many stickers are there."""
    total: int
    sticker: Sticker | None
    """The sticker that is there now; None while it is drawn."""


Callback = Callable[[Progress], Any]


@dataclass(frozen=True)
class Pack:
    """A pack that was written."""

    folder: Path
    stickers: dict[str, Sticker]
    """By the names of their moods."""
    sheet: Path
    folders: dict[str, Path]
    """By the names of the messengers."""
    notes: list[str]
    """Sentences about what was left out."""


def make_pack(
    genmoji: Genmoji,
    subject: str,
    folder: str | Path,
    *,
    messengers: Sequence[str] | None = None,
    moods: Sequence[str] | None = None,
    title: str | None = None,
    author: str = AUTHOR,
    seed: int | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Pack:
    """Draw `subject` in each mood, and write the pack to `folder`, which must be empty, absent, or hold that pack.

    messengers: names in `messengers.MESSENGERS`, None for all. moods: names in `moods.MOODS`, None for
    `moods.DEFAULT_MOODS`. title: by default the subject. options: what else `Genmoji.generate` takes of a prompt, such
    as steps, guidance, template, skin_tone; the same for each sticker, as is the seed, so that all show one figure
    (`variety` is 0 unless given).
    callback: called after each step of a drawing and after each sticker; if it returns False, Cancelled is raised.

    A sticker that is in the folder is kept; one that is missing or damaged is drawn. A mood that the model cannot draw
    of this subject is left out, and noted. Raises UserError where the folder holds something else, such as the pack of
    another subject or model, and where no mood can be drawn.
    """
    subject = clean(subject)
    if not subject:
        raise UserError('The subject is empty: say whom the stickers show, for example "orange cat".')
    chosen = moods_named(moods)
    folder = Path(folder)
    prompts, notes = prompts_of(genmoji, subject, chosen, options)
    places = messengers_named(messengers, len(prompts))
    drawing = _settings(genmoji, subject, options)
    seed = _started(folder, drawing, seed)
    drawn = _draw_all(genmoji, folder, prompts, seed, options, callback)
    cutouts = {mood: Sticker(sticker.cutout(), sticker.recipe) for mood, sticker in drawn.items()}
    figures = [Figure(mood, prompts[mood], trimmed(cutout.image)) for mood, cutout in cutouts.items()]
    metadata = Metadata(
        clean(title or "") or subject[:1].upper() + subject[1:], clean(author) or AUTHOR, ascii_slug(subject)
    )
    sheet = contact_sheet(metadata.title, [(mood.name, cutout.image) for mood, cutout in cutouts.items()])
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(folder / SHEET, buffer.getvalue())
    folders = {name: _write_folder(folder / name, MESSENGERS[name].files(metadata, figures)) for name in places}
    described = [
        {"mood": mood.name, "emoji": mood.emoji, "prompt": prompts[mood], "file": f"{STICKERS}/{mood.name}.png"}
        for mood in drawn
    ]
    contents = {"format": FORMAT, "drawing": {**drawing, "seed": seed}, "title": metadata.title}
    write_json(folder / PACK_FILE, {**contents, "author": metadata.author, "stickers": described})
    return Pack(folder, {mood.name: sticker for mood, sticker in drawn.items()}, folder / SHEET, folders, notes)


def prompts_of(
    genmoji: Genmoji, subject: str, moods: Sequence[Mood], options: dict[str, Any]
) -> tuple[dict[Mood, str], list[str]]:
    """The prompt of each mood that can be drawn, and a note on those that cannot.

    A model that draws combinations by parts gets the first wording that is one; any other model the sentence. Raises
    UserError where no mood can be drawn.
    """
    if not genmoji.draws_parts(options.get("template")):
        return {mood: mood.sentence.format(x=subject) for mood in moods}, []
    read = {name: options[name] for name in ("template", "skin_tone", "person_type") if name in options}
    # Raises where the model knows nothing of the subject: a mood alone would be drawn as its smiley.
    genmoji.combination(subject, **read)
    prompts = {}
    for mood in moods:
        wordings = (wording.format(x=subject) for wording in mood.wordings)
        prompt = next((text for text in wordings if genmoji.combination(text, **read) is not None), None)
        if prompt is not None:
            prompts[mood] = prompt
    if not prompts:
        raise UserError(
            f"{quoted(subject, 60)!r} cannot be drawn with moods by this model; name one animal, person, food or thing,"
            ' such as "orange cat".'
        )
    missing = [mood.name for mood in moods if mood not in prompts]
    return prompts, [f"Left out, because {subject} cannot be drawn so: {', '.join(missing)}."] if missing else []


def _settings(genmoji: Genmoji, subject: str, options: dict[str, Any]) -> dict[str, Any]:
    """What decides how the stickers look, besides the seed; JSON values."""
    return {
        "subject": subject,
        "model": genmoji.name,
        "model_sha256": genmoji.sha256,
        "quantization": genmoji.quantization,
        "adapters": [dict(adapter) for adapter in genmoji.adapters.recipe],
        "options": {name: value for name, value in sorted(options.items()) if value not in (None, "")},
    }


def _started(folder: Path, drawing: dict[str, Any], seed: int | None) -> int:
    """Begin a pack in `folder`, or go on with the one that is there. Returns its seed.

    Raises UserError where the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{quoted(folder)} is not a folder; give the pack another name.")
    path = folder / PACK_FILE
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{quoted(folder)} holds other files, and no pack; give the pack an empty or a new folder.")
        seed = secrets.randbelow(2**31) if seed is None else seed
        write_json(path, {"format": FORMAT, "drawing": {**drawing, "seed": seed}})
        return seed
    before = read_json(path).get("drawing")
    if not isinstance(before, dict) or not isinstance(before.get("seed"), int):
        raise UserError(f"{quoted(path)} describes no pack; give the pack another folder.")
    wanted = {**drawing, "seed": before["seed"] if seed is None else seed}
    for name, value in wanted.items():
        if before.get(name) != value:
            raise UserError(
                f"{quoted(folder)} holds a pack with another {name.replace('_', ' ')}: {quoted(before.get(name), 80)},"
                f" not {quoted(value, 80)}; give this pack another folder."
            )
    return int(before["seed"])


def _draw_all(
    genmoji: Genmoji,
    folder: Path,
    prompts: dict[Mood, str],
    seed: int,
    options: dict[str, Any],
    callback: Callback | None,
) -> dict[Mood, Sticker]:
    """The stickers of all moods: those that are in the folder, and the others drawn and written to it."""
    (folder / STICKERS).mkdir(exist_ok=True)
    drawn: dict[Mood, Sticker] = {}

    def report(mood: Mood, sticker: Sticker | None) -> bool:
        progress = Progress(mood.name, len(drawn), len(prompts), sticker)
        return callback is None or callback(progress) is not False

    with genmoji.keeping_drawings():
        for mood, prompt in prompts.items():
            path = folder / STICKERS / f"{mood.name}.png"
            sticker = _kept(path, prompt, seed)
            if sticker is None:
                step = (lambda *_, mood=mood: report(mood, None)) if callback else None
                with warnings.catch_warnings():
                    # The pack says them itself, once for each mood.
                    warnings.simplefilter("ignore", UserWarning)
                    sticker = genmoji.generate(prompt, seed=seed, callback=step, **{"variety": 0.0, **options})[0]
                write_bytes(path, sticker.encoded(".png"))
            drawn[mood] = sticker
            if not report(mood, sticker):
                raise Cancelled
    return drawn


def _kept(path: Path, prompt: str, seed: int) -> Sticker | None:
    """The sticker in a file, if it was drawn of this prompt with this seed; else None, as where the file is damaged."""
    try:
        recipe = read_recipe(path)
        if recipe is None or (recipe.get("prompt"), recipe.get("seed")) != (prompt, seed):
            return None
        return Sticker.open(path)
    except (UserError, *UNREADABLE):
        return None


def _write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write `files` to `folder` in place of what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with whole_folder(folder) as partial:
        for name, data in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(partial / name, data)
    return folder

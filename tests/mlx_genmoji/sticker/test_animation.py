"""Animated stickers: what moves, what each place takes, and what is said where it cannot be."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app import cli
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.sticker import Sticker, animation
from mlx_genmoji.sticker.animation import CLIPS, FEWEST_FRAMES, FRAMES, MOTIONS, SUFFIXES, encode, frames


@pytest.fixture(scope="module")
def pig() -> Sticker:
    """A combination: its parts are layers."""
    return Genmoji.load().generate("flying pig wearing a crown", seed=3, steps=2)[0]


@pytest.fixture
def ball() -> Sticker:
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).ellipse([30, 30, 98, 98], fill=(200, 40, 60))
    return Sticker(picture)


def shown(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as opened:
        pictures = []
        for number in range(opened.n_frames):
            opened.seek(number)
            pictures.append(np.asarray(opened.convert("RGBA")).astype(int))
        return pictures


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_a_file_loops_for_ever_and_moves(motion: str, suffix: str, ball: Sticker) -> None:
    data = ball.animated(motion, suffix)
    pictures = shown(data)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["loop"] == 0 and opened.format == {".webp": "WEBP", ".png": "PNG", ".gif": "GIF"}[suffix]
    assert FEWEST_FRAMES <= len(pictures) <= FRAMES
    assert max(np.abs(picture - pictures[0]).mean() for picture in pictures) > 1
    # The figure is whole in every frame, and what is around it is clear.
    assert all(picture[0, 0, 3] == 0 or picture[-1, -1, 3] == 0 for picture in pictures)


def test_the_parts_of_a_combination_move_in_the_figure(pig: Sticker) -> None:
    assert pig.stage is not None
    stage = pig.stage()
    assert stage is not None
    still = np.asarray(stage.drawn(lambda part: animation.Pose())).astype(int)
    turned = np.asarray(stage.drawn(lambda part: animation.Pose(turned=15.0 if part == 1 else 0.0))).astype(int)
    gone = np.asarray(stage.drawn(lambda part: animation.Pose(alpha=0.0))).astype(int)
    assert np.abs(turned - still).max() > 100
    # The subject in the middle stays as it is.
    assert np.array_equal(turned[70:100, 50:78], still[70:100, 50:78])
    assert (gone[..., 3] > 128).sum() < 0.9 * (still[..., 3] > 128).sum()
    assert np.abs(still[..., :3] * (still[..., 3:] > 250) - np.asarray(pig.cutout())[..., :3].astype(int)).mean() < 20


def test_nothing_is_cut_off_by_the_motion(ball: Sticker) -> None:
    figure = ball.cutout()
    area = (np.asarray(figure)[..., 3] > 128).mean()
    for motion in MOTIONS.values():
        moments = frames(figure, None, motion)
        assert len({moment.size for moment in moments}) == 1
        areas = [(np.asarray(moment)[..., 3] > 20).sum() / 128**2 for moment in moments]
        assert min(areas) > 0.9 * area * animation.ROOM**2


@pytest.mark.parametrize("target", CLIPS)
def test_each_place_gets_its_format_size_and_limit(target: str, pig: Sticker) -> None:
    clip = CLIPS[target]
    if clip.format == "WEBM" and shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which writes WebM files, is not installed")
    data = pig.animated("wiggle", target=target)
    assert len(data) <= clip.max_bytes
    if clip.format == "WEBM":
        assert data[:4] == b"\x1a\x45\xdf\xa3" and b"V_VP9" in data
        return
    pictures = shown(data)
    assert max(pictures[0].shape[:2]) == clip.side and 5 <= len(pictures) <= 20
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == ("PNG" if clip.format == "APNG" else clip.format)
        opened.load()
        assert opened.info["duration"] * len(pictures) <= 3000


def test_a_large_animation_gets_fewer_colours_and_frames_or_a_sentence() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 4), dtype=np.uint8)
    moments = frames(Image.fromarray(noise, "RGBA"), None, MOTIONS["wiggle"])
    free = encode(moments, animation.Clip("WEBP", 128, 10**9))
    tight = encode(moments, animation.Clip("WEBP", 128, len(free) // 3))
    assert len(tight) <= len(free) // 3
    with pytest.raises(UserError, match=r"at least .* bytes and may have 100;"):
        encode(moments, animation.Clip("WEBP", 128, 100))


def test_without_ffmpeg_a_sentence_says_how_to_get_it(ball: Sticker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="need ffmpeg: brew install ffmpeg"):
        ball.animated("wiggle", target="telegram")


def test_ffmpeg_gets_the_frames_and_its_fault_is_a_sentence(
    ball: Sticker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\necho "$@" > "$0.said"\ncat > "$0.got"\necho "no codec" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UserError, match="ffmpeg cannot write the animation: no codec"):
        ball.animated("float", target="telegram-emoji")
    assert "-s 100x100" in Path(f"{program}.said").read_text()
    assert Path(f"{program}.got").stat().st_size == FRAMES * 100 * 100 * 4


def test_what_cannot_be_is_a_sentence(ball: Sticker) -> None:
    with pytest.raises(UserError, match="no motion 'spin'; there are: wiggle, bounce, float, blink"):
        ball.animated("spin")
    with pytest.raises(UserError, match="favicon takes no animated stickers; these do: slack"):
        ball.animated("wiggle", target="favicon")
    with pytest.raises(UserError, match=r"cannot be saved as \.jpg"):
        ball.animated("wiggle", ".jpg")
    with pytest.raises(UserError, match="empty"):
        Sticker(Image.new("RGB", (32, 32), "white")).animated("wiggle")


def test_the_commands_write_animated_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "flying pig", "--animate", "Wiggle", "--steps", "1"]) == 0
    assert cli.main(["generate", "flying pig", "--animate", "bounce", "--format", "slack", "--steps", "1"]) == 0
    assert cli.main(["generate", "pig", "--steps", "1", "-o", "pig.png"]) == 0
    assert cli.main(["stickers", "pig.png", "--for", "discord", "--animate", "float"]) == 0
    written = ["flying-pig.webp", "flying-pig-slack.gif", "pig.png", "pig-discord-emoji.gif", "pig-discord-sticker.png"]
    assert capsys.readouterr().out.split() == written
    for name in written:
        with Image.open(name) as opened:
            assert getattr(opened, "is_animated", False) == (name != "pig.png")
    assert cli.main(["generate", "pig", "--animate", "float", "-o", "pig.jpg"]) == 2
    message = capsys.readouterr().err
    assert all(suffix in message for suffix in SUFFIXES)

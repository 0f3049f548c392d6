"""npm packages are read, never extracted, and what is wrong with one is said in a sentence."""

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrape import ScrapeError
from scrape.packages import Package

PACKAGE = Package("@scope/emoji", "1.2.3", ("assets/*.svg",))
MANIFEST = {"name": "@scope/emoji", "version": "1.2.3"}

Pack = Callable[..., Path]


def test_only_the_wanted_files_are_handed_on(tarball: Pack, tmp_path: Path) -> None:
    files = {"assets/b.svg": b"2", "assets/a.svg": b"1", "assets/c.txt": b"3", "README.md": b""}
    read = PACKAGE.read(tarball(tmp_path / "a.tgz", MANIFEST, files))
    assert list(read.items()) == [("assets/a.svg", b"1"), ("assets/b.svg", b"2")]


def test_no_name_in_a_tarball_leads_outside(tarball: Pack, tmp_path: Path) -> None:
    path = tarball(tmp_path / "a.tgz", MANIFEST, {"assets/a.svg": b"1", "assets/../../../assets/b.svg": b"2"})
    members = []
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            members.append((member, content.read() if content else b""))
    link = tarfile.TarInfo("package/assets/link.svg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    absolute = tarfile.TarInfo("/package/assets/absolute.svg")
    with tarfile.open(path, "w:gz") as archive:
        for member, data in [*members, (link, b""), (absolute, b"")]:
            archive.addfile(member, io.BytesIO(data))
    before = sorted(tmp_path.parent.rglob("*"))
    assert list(PACKAGE.read(path)) == ["assets/a.svg"]
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_no_link_in_a_folder_leads_outside(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    (folder / "assets").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "@scope/emoji", "version": "1.2.3"}')
    (folder / "assets" / "a.svg").write_text("1")
    (tmp_path / "secret").write_text("2")
    (folder / "assets" / "b.svg").symlink_to(tmp_path / "secret")
    assert list(PACKAGE.read(folder)) == ["assets/a.svg"]


@pytest.mark.parametrize(
    ("manifest", "files", "message"),
    [
        (None, {"assets/a.svg": b"1"}, "has no package.json"),
        ({"name": "other", "version": "1.2.3"}, {"assets/a.svg": b"1"}, "is other@1.2.3, and @scope/emoji@1.2.3"),
        ({"name": "@scope/emoji", "version": "2.0.0"}, {"assets/a.svg": b"1"}, "is @scope/emoji@2.0.0, and"),
        ({"version": "1.2.3"}, {"assets/a.svg": b"1"}, "names no package and version"),
        (MANIFEST, {"README.md": b""}, r"holds no assets/\*.svg"),
    ],
)
def test_the_wrong_package_is_said_to_be_one(
    tarball: Pack, tmp_path: Path, manifest: dict[str, str] | None, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ScrapeError, match=message):
        PACKAGE.read(tarball(tmp_path / "a.tgz", manifest, files))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_tarball_is_one_sentence(tarball: Pack, tmp_path: Path, kept: float) -> None:
    path = tarball(tmp_path / "a.tgz", MANIFEST, {f"assets/{n}.svg": bytes(range(256)) * 40 for n in range(20)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(ScrapeError, match="cannot be read as an npm package") as caught:
        PACKAGE.read(path)
    assert "\n" not in str(caught.value)


def test_a_path_that_does_not_exist_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match=r"does not exist; give a tarball .* of @scope/emoji@1\.2\.3"):
        PACKAGE.read(tmp_path / "nowhere")


def test_an_empty_folder_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match=r"has no package\.json"):
        PACKAGE.read(tmp_path)


@pytest.fixture
def npm(tmp_path: Path, tarball: Pack, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stand-in for npm that packs PACKAGE; the calls made of it."""
    calls: list[list[str]] = []

    def run(command: list[str], cwd: str, **options: Any) -> None:
        calls.append(command)
        tarball(Path(cwd) / PACKAGE.tarball, MANIFEST, {"assets/a.svg": b"1"})

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("subprocess.run", run)
    return calls


def test_npm_packs_once_and_the_cache_serves_from_then_on(npm: list[list[str]], tmp_path: Path) -> None:
    assert PACKAGE.read() == PACKAGE.read() == {"assets/a.svg": b"1"}
    assert [command[:3] for command in npm] == [["/bin/npm", "pack", "@scope/emoji@1.2.3"]]
    assert [path.name for path in (tmp_path / "cache" / "mlx-genmoji" / "npm").iterdir()] == ["scope-emoji-1.2.3.tgz"]


def test_without_npm_the_tarball_is_asked_for(npm: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ScrapeError, match=r"npm is not installed.*or give the tarball"):
        PACKAGE.read()


def test_what_npm_says_is_handed_on_in_one_line(npm: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **options: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="npm error code E404\nnpm error not found\n")

    monkeypatch.setattr("subprocess.run", fail)
    with pytest.raises(ScrapeError, match=r"failed: npm error code E404 npm error not found$"):
        PACKAGE.read()


def test_a_cache_that_cannot_be_written_is_one_sentence(
    npm: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ScrapeError, match="cannot be put into"):
        PACKAGE.read()

"""Reads files of npm packages from a tarball, which `npm pack` fetches, or from an unpacked folder.

Tarballs are not extracted, so that no file name inside one can lead outside a folder.
"""

import fnmatch
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import ScrapeError

PACK_TIMEOUT_S = 600

MANIFEST = "package.json"


@dataclass(frozen=True)
class Package:
    """An npm package, pinned to one version because corrections depend on it, and the files that are read.

    wanted: shell patterns of names inside the package, such as `assets/*.webp`.
    """

    name: str
    version: str
    wanted: tuple[str, ...]

    @property
    def spec(self) -> str:
        """The package as npm spells it, `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def read(self, path: Path | None = None) -> dict[str, bytes]:
        """The wanted files, by their names inside the package, in name order.

        path: a tarball or an unpacked folder; by default the package comes from the user's cache or npm.
        Raises ScrapeError where the package cannot be read, or is another one.
        """
        path = self._pack() if path is None else path
        if not path.exists():
            raise ScrapeError(f"{path} does not exist; give a tarball or an unpacked folder of {self.spec}.")
        try:
            read = _folder_files if path.is_dir() else _tarball_files
            files = dict(sorted(read(path, self._wants)))
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            reason = " ".join(str(error).split())
            raise ScrapeError(f"{path} cannot be read as an npm package ({reason}); fetch it again.") from error
        self._check(path, files.pop(MANIFEST, None))
        for pattern in self.wanted:
            if not fnmatch.filter(files, pattern):
                raise ScrapeError(f"{path} holds no {pattern}; fetch {self.spec} again.")
        return files

    def _wants(self, name: str) -> bool:
        return name == MANIFEST or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.wanted)

    def _check(self, path: Path, manifest: bytes | None) -> None:
        if manifest is None:
            raise ScrapeError(f"{path} has no package.json; give a tarball or an unpacked folder of {self.spec}.")
        try:
            fields = json.loads(manifest)
            actual = f"{fields['name']}@{fields['version']}"
        except (ValueError, KeyError, TypeError) as error:
            raise ScrapeError(
                f"package.json in {path} names no package and version; fetch {self.spec} again."
            ) from error
        if actual != self.spec:
            raise ScrapeError(f"{path} is {actual}, and {self.spec} is needed.")

    def _pack(self) -> Path:
        cached = cache_folder() / self.tarball
        if cached.is_file():
            return cached
        npm = shutil.which("npm")
        if npm is None:
            raise ScrapeError(f"npm is not installed, and fetches {self.spec}; install Node.js, or give the tarball.")
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                subprocess.run(
                    [npm, "pack", self.spec, "--ignore-scripts", "--silent"],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=PACK_TIMEOUT_S,
                )
                os.replace(Path(folder) / self.tarball, cached)
        except subprocess.TimeoutExpired as error:
            raise ScrapeError(f"npm pack {self.spec} took over {PACK_TIMEOUT_S} s; try again.") from error
        except subprocess.CalledProcessError as error:
            reason = " ".join((error.stderr or error.stdout or "no reason given").split())
            raise ScrapeError(f"npm pack {self.spec} failed: {reason}") from error
        except OSError as error:
            raise ScrapeError(f"{self.spec} cannot be put into {cached.parent} ({error}).") from error
        return cached


def cache_folder() -> Path:
    """The folder of the fetched tarballs, in `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-genmoji" / "npm"


def _tarball_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    # Unzipped at once, which checks it: tarfile would take a stream that ends early for a short archive.
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes())), mode="r:") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            # The first part is the archive's own folder, whatever it is called: npm drops it too.
            name = "/".join(parts[1:])
            if ".." in parts or member.name.startswith("/") or not (member.isfile() and wanted(name)):
                continue
            content = archive.extractfile(member)
            if content is not None:
                yield name, content.read()


def _folder_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    root = path if (path / MANIFEST).is_file() else path / "package"
    for file in root.rglob("*"):
        name = file.relative_to(root).as_posix()
        if wanted(name) and file.is_file() and file.resolve().is_relative_to(root.resolve()):
            yield name, file.read_bytes()

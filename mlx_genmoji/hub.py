"""Hub: the folder of a model, which is on this machine or is fetched from the Hugging Face hub.

Of a repository, only what is needed to draw comes over: `model_index.json`, of each component it lists the
configuration and the weights in one precision, `genmoji.json` and `words.tsv`. Only safetensors, never pickles. Files
lie in the hub's own cache, where other programs find them; what was fetched whole is used from then on without asking
the network, so that the same name stays the same model. A file that was cut off goes on where it stopped.

`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` are read at each call.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .checkpoint.weight_files import HALF_PRECISION, PICKLES, STEMS
from .errors import UserError
from .models.ops import on_cpu

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

INDEX = "model_index.json"
OPTIONAL = ("genmoji.json", "words.tsv")

# The entries of a model_index.json that are read; the others (a safety checker is 1.2 GB) stay where they are.
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
WEIGHTLESS = ("tokenizer", "tokenizer_2", "scheduler")

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
"""The model that ships with the package, wherever a model is named; a folder of that name is `./builtin`."""

REVISION = r"\w[\w./-]*"
ID = re.compile(rf"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>{REVISION}))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")

CHUNK = 2**20
ATTEMPTS = 5
"""How often in a row a connection may bring nothing before it is given up."""
PAUSE = 1.0
"""Seconds between two of them."""


def resolve(model: str | Path, revision: str | None = None, *, half: bool | None = None) -> Path:
    """The folder of `model`: itself if it exists, else the snapshot of a hub id `owner/name` or `owner/name@revision`.

    `half`: whether weights in half precision are wanted where there is a choice; None is as the device works fastest.
    The snapshot's folder is named by the commit. Raises UserError in one sentence where there is no such model, it may
    not be read without logging in, it holds no safetensors, or it is not on this machine and cannot be fetched.
    """
    if str(model) == BUILTIN_NAME:
        return BUILTIN
    if Path(model).exists():
        return Path(model)
    match = ID.fullmatch(str(model))
    if match is None:
        raise UserError(f"There is no model folder {model}; a model on the Hugging Face hub is called owner/name.")
    revision = revision or match["revision"] or "main"
    if not re.fullmatch(REVISION, revision, re.ASCII) or ".." in revision:
        raise UserError(f"{revision!r} is not a branch, tag or commit of a model.")
    repository = Repository(match["id"], revision)
    half = not on_cpu() if half is None else half
    return repository.cached(half) or repository.fetch(half)


@dataclass(frozen=True)
class Repository:
    """A model on the hub at a revision (a branch, a tag or a commit), and its place in the hub's cache."""

    id: str
    revision: str

    @property
    def folder(self) -> Path:
        return _cache() / f"models--{self.id.replace('/', '--')}"

    def cached(self, half: bool) -> Path | None:
        """The snapshot on this machine, if it holds all that is needed."""
        commit = self.revision
        if not COMMIT.fullmatch(commit):
            try:
                commit = (self.folder / "refs" / self.revision).read_text().strip()
            except OSError:
                return None
        snapshot = self.folder / "snapshots" / commit
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        try:
            needed = needed_files(self.id, names, _read_json(snapshot / INDEX), half)
            listed = [path for name in needed if ".safetensors.index" in name for path in _shards(snapshot / name)]
        except (AttributeError, KeyError, OSError, TypeError, UserError, ValueError):
            return None
        return snapshot if all(path.is_file() for path in listed) else None

    def fetch(self, half: bool) -> Path:
        """Bring over what is missing and return the snapshot."""
        if _offline():
            raise UserError(
                f"{self} is not on this machine and HF_HUB_OFFLINE forbids to fetch it; with a network, run once:"
                f" HF_HUB_OFFLINE=0 {self._command()}"
            )
        with self._errors():
            commit, names = self._listing()
            if INDEX not in names:
                raise UserError(_no_index(self.id, names))
            snapshot = self.folder / "snapshots" / commit
            self._bring(commit, [INDEX])
            needed = needed_files(self.id, names, _read_json(snapshot / INDEX), half)
            # Weights last: a component that has them has the rest.
            self._bring(commit, sorted(needed, key=lambda name: (name.endswith(".safetensors"), name)))
            if self.revision != commit:
                _write(self.folder / "refs" / self.revision, commit)
        return snapshot

    def _listing(self) -> tuple[str, list[str]]:
        """The commit that the revision is now, and the names of its files."""
        from huggingface_hub import HfApi

        try:
            info = HfApi(endpoint=_endpoint()).model_info(self.id, revision=self.revision)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no description of a model: {error}") from None
        if not COMMIT.fullmatch(info.sha or ""):
            raise ValueError("no commit")
        return str(info.sha), [sibling.rfilename for sibling in info.siblings or []]

    def _bring(self, commit: str, names: Iterable[str]) -> None:
        """Have these files of a commit in its snapshot, with a progress bar where there is much to do."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from tqdm import tqdm

        endpoint, cache = _endpoint(), _cache()
        missing = [name for name in names if not (self.folder / "snapshots" / commit / name).exists()]
        files = []
        for name in missing:
            url = hf_hub_url(self.id, name, revision=commit, endpoint=endpoint)
            metadata = get_hf_file_metadata(url, endpoint=endpoint)
            if metadata.commit_hash != commit or not re.fullmatch(r"[\w.-]+", metadata.etag or ""):
                raise ValueError("no commit or no ETag")
            files.append((name, url, metadata))
        blobs = self.folder / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        total = sum(metadata.size or 0 for _, _, metadata in files)
        done = sum(_size(blobs / f"{metadata.etag}.part") for _, _, metadata in files)
        free = shutil.disk_usage(blobs).free
        if total - done > free:
            raise UserError(_disk_full(total - done, free))
        quiet = total < 10 * CHUNK or bool(os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"))
        with tqdm(desc=self.id, total=total, unit="B", unit_scale=True, disable=True if quiet else None) as bar:
            for name, url, metadata in files:
                self._download(url, metadata, blobs, bar)
                # The blob is there, so this only links it into the snapshot.
                hf_hub_download(self.id, name, revision=commit, endpoint=endpoint, cache_dir=cache)

    def _download(self, url: str, metadata: HfFileMetadata, blobs: Path, bar: Any) -> None:
        """Write one file to its blob, going on with the part of it that is there."""
        from huggingface_hub.utils import WeakFileLock

        blob = blobs / str(metadata.etag)
        part = blobs / f"{metadata.etag}.part"
        locks = _cache() / ".locks" / self.folder.name
        locks.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{metadata.etag}.lock"):
            if blob.exists():
                bar.update(metadata.size or 0)
                return
            with part.open("ab") as file:
                if metadata.size is None or file.tell() > metadata.size:
                    file.truncate(0)
                    file.seek(0)
                bar.update(file.tell())
                _receive(url, metadata.size, file, bar)
            if not _whole(part, metadata):
                part.unlink()
                raise UserError(f"A file of {self} arrived damaged; run the same command again to fetch it anew.")
            os.replace(part, blob)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what can go wrong on the way into one sentence for the person who waits."""
        from httpx2 import HTTPError
        from huggingface_hub import errors

        page = f"{_endpoint()}/{self.id}"
        try:
            yield
        except errors.HFValidationError:
            raise UserError(f"There is no model folder {self.id}, and no model on the hub can be called so.") from None
        except errors.GatedRepoError:
            raise UserError(f"{self.id} is gated: ask for access at {page}, then log in with: hf auth login") from None
        except errors.RepositoryNotFoundError:
            raise UserError(
                f"There is neither a folder nor a model on the Hugging Face hub called {self.id}; if it is a private"
                " one, log in with: hf auth login"
            ) from None
        except errors.RevisionNotFoundError:
            raise UserError(
                f"{self.id} has no revision {self.revision}; see {page}/tree/main for those it has."
            ) from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                raise UserError(f"The hub refuses access to {self.id} ({status}); log in with: hf auth login") from None
            raise UserError(f"The hub answered with error {status} for {self}; try again later.") from None
        except (HTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
            raise UserError(
                f"{self} is not whole on this machine and {_endpoint()} cannot be reached ({type(error).__name__});"
                f" with a network, run: {self._command()}"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(_disk_full(None, shutil.disk_usage(_cache()).free)) from None
            raise UserError(f"{self} cannot be kept in {_cache()}: {error.strerror or error}.") from None
        except ValueError as error:
            raise UserError(
                f"{_endpoint()} does not answer as the Hugging Face hub does ({error!s:.80}); is it a login page of"
                " the network, or HF_ENDPOINT mistaken?"
            ) from None

    def _command(self) -> str:
        return f'genmoji generate "flying pig" --model {self}'

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


def needed_files(repository: str, names: Iterable[str], index: Mapping[str, Any], half: bool) -> list[str]:
    """Of a repository's file names, those that are needed to draw with it, given its `model_index.json`.

    Raises UserError where a component has no safetensors.
    """
    names = set(names)
    needed = [name for name in (INDEX, *OPTIONAL) if name in names]
    for component in (*WEIGHTED, *WEIGHTLESS):
        entry = index.get(component)
        if not (isinstance(entry, list) and all(entry)):
            continue
        inside = [name for name in names if name.rpartition("/")[0] == component]
        bare = [name.rpartition("/")[2] for name in inside]
        if component in WEIGHTLESS:
            chosen = [name for name in bare if name.endswith((".json", ".txt"))]
        else:
            chosen = ["config.json", *_weights(repository, component, bare, half)]
        needed += [f"{component}/{name}" for name in chosen]
    absent = [name for name in needed if name not in names]
    if absent:
        raise UserError(f"{repository} is not whole: it has no {absent[0]}.")
    return needed


def _weights(repository: str, component: str, names: list[str], half: bool) -> list[str]:
    """The files of one precision, the index of those in several pieces included."""
    precisions: dict[str, list[str]] = {}
    for name in names:
        stem, *parts = re.sub(r"-\d+-of-\d+", "", name).split(".")
        precision = [part for part in parts if part in HALF_PRECISION]
        kind = [part for part in parts if part not in HALF_PRECISION]
        if stem in STEMS and len(precision) <= 1 and kind in (["safetensors"], ["safetensors", "index", "json"]):
            precisions.setdefault("".join(precision), []).append(name)
    for wanted in (*HALF_PRECISION, "") if half else ("", *HALF_PRECISION):
        files = precisions.get(wanted, [])
        whole = [name for name in files if name.endswith(".safetensors") and "-of-" not in name]
        if whole or any(name.endswith(".safetensors") for name in files):
            return whole or files
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    why = f"only {pickles[0]}, a pickle, which can run any code" if pickles else "no weights"
    raise UserError(f"{repository} has {why} in {component}: a model with .safetensors files is needed.")


def _receive(url: str, size: int | None, file: BinaryIO, bar: Any) -> None:
    """Append what is missing, asking again when the connection breaks. Raises HTTPError when it keeps breaking."""
    from httpx2 import RemoteProtocolError, TransportError
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # Compressed, a file has no places to go on from. A redirect to the store of large files loses the token.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    attempts = ATTEMPTS
    while size is None or file.tell() < size:
        have = file.tell()
        wanted = {"Range": f"bytes={have}-"} if have else {}
        broken: TransportError = RemoteProtocolError("it sends nothing")
        try:
            with get_session().stream("GET", url, headers=headers | wanted, timeout=30) as response:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                if have and response.status_code != 206:
                    file.truncate(0)
                    file.seek(0)
                    bar.update(-have)
                for chunk in response.iter_bytes(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            if size is None:
                return
        except TransportError as error:
            broken = error
        attempts = ATTEMPTS if file.tell() > have else attempts - 1
        if not attempts:
            raise broken
        if attempts < ATTEMPTS:
            time.sleep(PAUSE)


def _whole(part: Path, metadata: HfFileMetadata) -> bool:
    """Whether a file has its size and, if it is a large one, whose ETag is its SHA-256, its content."""
    if metadata.size is not None and _size(part) != metadata.size:
        return False
    if not re.fullmatch(r"[0-9a-f]{64}", metadata.etag or ""):
        return True
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == metadata.etag


def _shards(index: Path) -> list[Path]:
    return [index.with_name(name) for name in set(_read_json(index)["weight_map"].values())]


def _read_json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a name of its own, since another thread or program may be fetching the same.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # Not begun, or moved into place by another a moment ago.
        return 0


def _no_index(repository: str, names: Iterable[str]) -> str:
    single = [name for name in sorted(names) if name.endswith(".safetensors") and "/" not in name]
    if single:
        return f"{repository} has no {INDEX}; download {single[0]} from it and give the file."
    return f"{repository} is not a diffusers model: it has no {INDEX}."


def _disk_full(needed: int | None, free: int) -> str:
    what = "more" if needed is None else f"{needed / 1e9:.2f} GB"
    return f"The disk of {_cache()} is full: {what} needed, {free / 1e9:.2f} GB free; make room or set HF_HOME."


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _cache() -> Path:
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)


def _offline() -> bool:
    from huggingface_hub import constants

    named = os.environ.get("HF_HUB_OFFLINE")
    return named.upper() in constants.ENV_VARS_TRUE_VALUES if named else constants.is_offline_mode()

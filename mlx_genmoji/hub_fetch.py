"""Downloads a repository of the Hugging Face hub to the hub's own cache.

An interrupted download is resumed. A file whose ETag is its SHA-256 is verified. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are
read at each call.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .errors import UserError
from .files import read_json, write_text
from .hub_repository import COMMIT, INDEX, AdapterRepository, FileRepository, Repository, cache_folder, endpoint_url

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

DESCRIPTIONS = (INDEX, "README.md", "special_params.json")
"""The small files of a repository that say what it is."""

CHUNK = 2**20
WEIGHTS = (".safetensors", ".bin")
ATTEMPTS = 5
"""The number of connections in a row that may bring no data before the download is given up."""
PAUSE = 1.0
"""Seconds between two attempts."""


class Contents(NamedTuple):
    """What a repository on the hub holds."""

    commit: str
    names: list[str]
    sizes: dict[str, int | None]
    """Bytes of each file, where the hub says."""
    license: str | None


def fetch(repository: Repository, half: bool) -> Path:
    """Download the missing files of a snapshot. Returns its folder."""
    if _offline():
        raise UserError(
            f"{repository} is not on this machine and HF_HUB_OFFLINE forbids fetching it; with a network, run once:"
            f" HF_HUB_OFFLINE=0 {repository.command}"
        )
    with hub_errors(repository):
        commit, names = _listing(repository)
        if INDEX not in names and not (repository.component and "config.json" in names):
            from .hub_contents import no_model

            raise UserError(no_model(repository, commit, names))
        snapshot = repository.folder / "snapshots" / commit
        if INDEX in names:
            _download_missing(repository, commit, [INDEX])
        needed = repository.needed(names, _index(snapshot) if INDEX in names else {}, half)
        # Weights last: a component whose weights are in the cache is complete.
        _download_missing(repository, commit, sorted(needed, key=lambda name: (name.endswith(WEIGHTS), name)))
        _keep_reference(repository, commit)
    return snapshot


def fetch_files(repository: AdapterRepository | FileRepository) -> Path:
    """Download the missing files of an adapter, or one file. Returns the folder of its snapshot."""
    if _offline():
        what = "adapter" if isinstance(repository, AdapterRepository) else "file"
        raise UserError(
            f"There is no {what} {repository} on this machine, and HF_HUB_OFFLINE forbids fetching it; with a network,"
            f" run once: HF_HUB_OFFLINE=0 {repository.command}"
        )
    with hub_errors(repository):
        commit, names = _listing(repository)
        _download_missing(repository, commit, repository.chosen_files(names))
        _keep_reference(repository, commit)
    return repository.folder / "snapshots" / commit


def contents(repository: Repository) -> Contents | None:
    """What a repository holds; None where HF_HUB_OFFLINE forbids asking. Fetches its small texts."""
    if _offline():
        return None
    from huggingface_hub import HfApi

    with hub_errors(repository):
        commit, names = _listing(repository)
        info = HfApi(endpoint=endpoint_url()).model_info(repository.id, revision=commit, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
        _download_missing(repository, commit, [name for name in DESCRIPTIONS if name in names])
        _keep_reference(repository, commit)
        tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return Contents(commit, names, sizes, next(iter(tags), None))


def _keep_reference(repository: Repository, commit: str) -> None:
    """Note in the cache which commit a branch or tag points to."""
    if repository.revision != commit:
        reference = repository.folder / "refs" / repository.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, commit)


def _listing(repository: Repository) -> tuple[str, list[str]]:
    """The commit that the revision points to, and the names of its files."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint_url()).model_info(repository.id, revision=repository.revision)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no description of a model: {error}") from None
    if not COMMIT.fullmatch(info.sha or ""):
        raise ValueError("no commit")
    return str(info.sha), [sibling.rfilename for sibling in info.siblings or []]


def _download_missing(repository: Repository, commit: str, names: Iterable[str]) -> None:
    """Download the files of a commit that its snapshot lacks, with a progress bar if they are large."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from tqdm import tqdm

    endpoint, cache = endpoint_url(), cache_folder()
    missing = [name for name in names if not (repository.folder / "snapshots" / commit / name).exists()]
    files = []
    for name in missing:
        url = hf_hub_url(repository.id, name, revision=commit, endpoint=endpoint)
        metadata = get_hf_file_metadata(url, endpoint=endpoint)
        if metadata.commit_hash != commit or not re.fullmatch(r"[\w.-]+", metadata.etag or ""):
            raise ValueError("no commit or no ETag")
        files.append((name, url, metadata))
    blobs = repository.folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    total = sum(metadata.size or 0 for _, _, metadata in files)
    done = sum(_size(blobs / f"{metadata.etag}.part") for _, _, metadata in files)
    free = shutil.disk_usage(blobs).free
    if total - done > free:
        raise UserError(_disk_full(total - done, free))
    quiet = total < 10 * CHUNK or bool(os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"))
    with tqdm(desc=repository.id, total=total, unit="B", unit_scale=True, disable=True if quiet else None) as bar:
        for name, url, metadata in files:
            _download(repository, url, metadata, blobs, bar)
            # The blob exists, so this only links it into the snapshot.
            hf_hub_download(repository.id, name, revision=commit, endpoint=endpoint, cache_dir=cache)


def _download(repository: Repository, url: str, metadata: HfFileMetadata, blobs: Path, bar: Any) -> None:
    """Download one file to its blob. Resumes a partial download."""
    from huggingface_hub.utils import WeakFileLock

    blob = blobs / str(metadata.etag)
    part = blobs / f"{metadata.etag}.part"
    locks = cache_folder() / ".locks" / repository.folder.name
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
            raise UserError(f"A file of {repository} arrived damaged; run the same command again to download it anew.")
        os.replace(part, blob)


@contextmanager
def hub_errors(repository: Repository) -> Iterator[None]:
    """Turn errors of the network, the hub and the disk into UserError."""
    from httpx2 import HTTPError
    from huggingface_hub import errors

    page = f"{endpoint_url()}/{repository.id}"
    try:
        yield
    except errors.HFValidationError:
        raise UserError(
            f"There is no model folder {repository.id}, and no model on the hub can have this name."
        ) from None
    except errors.GatedRepoError:
        raise UserError(
            f"{repository.id} is gated: ask for access at {page}, then log in with: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"There is neither a folder nor a model on the Hugging Face hub called {repository.id}; if it is a private"
            " one, log in with: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{repository.id} has no revision {repository.revision}; see {page}/tree/main for those it has."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UserError(
                f"The hub refuses access to {repository.id} ({status}); log in with: hf auth login"
            ) from None
        raise UserError(f"The hub answered with error {status} for {repository}; try again later.") from None
    except (HTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UserError(
            f"{repository} is incomplete on this machine and {endpoint_url()} cannot be reached"
            f" ({type(error).__name__}); with a network, run: {repository.command}"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(_disk_full(None, shutil.disk_usage(cache_folder()).free)) from None
        raise UserError(f"{repository} cannot be kept in {cache_folder()}: {error.strerror or error}.") from None
    except ValueError as error:
        raise UserError(
            f"{endpoint_url()} does not answer as the Hugging Face hub does ({error!s:.80}); is it a login page of"
            " the network, or HF_ENDPOINT mistaken?"
        ) from None


def _index(snapshot: Path) -> dict[str, Any]:
    try:
        return read_json(snapshot / INDEX)
    except UserError as error:
        raise ValueError(str(error)) from None


def _receive(url: str, size: int | None, file: BinaryIO, bar: Any) -> None:
    """Append the missing bytes to `file`, reconnecting if needed. Raises HTTPError if the connection keeps breaking."""
    from httpx2 import RemoteProtocolError, TransportError
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # A compressed response could not be resumed by offset. Redirects to the store of large files drop the token.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    attempts = ATTEMPTS
    while size is None or file.tell() < size:
        start = file.tell()
        byte_range = {"Range": f"bytes={start}-"} if start else {}
        broken: TransportError = RemoteProtocolError("it sends nothing")
        try:
            with get_session().stream("GET", url, headers=headers | byte_range, timeout=30) as response:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                if start and response.status_code != 206:
                    file.truncate(0)
                    file.seek(0)
                    bar.update(-start)
                for chunk in response.iter_bytes(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            if size is None:
                return
        except TransportError as error:
            broken = error
        attempts = ATTEMPTS if file.tell() > start else attempts - 1
        if not attempts:
            raise broken
        if attempts < ATTEMPTS:
            time.sleep(PAUSE)


def _whole(part: Path, metadata: HfFileMetadata) -> bool:
    """Whether a file has its size and, if its ETag is a SHA-256, the right content."""
    if metadata.size is not None and _size(part) != metadata.size:
        return False
    if not re.fullmatch(r"[0-9a-f]{64}", metadata.etag or ""):
        return True
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == metadata.etag


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # Not begun, or finished by another process a moment ago.
        return 0


def _disk_full(needed: int | None, free: int) -> str:
    what = "more" if needed is None else f"{needed / 1e9:.2f} GB"
    return f"The disk of {cache_folder()} is full: {what} needed, {free / 1e9:.2f} GB free; make room or set HF_HOME."


def _offline() -> bool:
    from huggingface_hub import constants

    named = os.environ.get("HF_HUB_OFFLINE")
    return named.upper() in constants.ENV_VARS_TRUE_VALUES if named else constants.is_offline_mode()

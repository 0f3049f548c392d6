"""Files that are whole or not there, and JSON that is read with care."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError, quoted


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, to write to: moved to `path` at the end, removed on an error.

    Two processes or threads that write the same file do not meet. durable: the data is on the disk before it is moved
    (fsync), so that not even a power cut leaves a part of it.
    """
    partial = path.with_name(f".{path.stem[:40]}.{_owner()}.partial{path.suffix}")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new temporary folder beside `path` to fill: moved to `path`, which must be empty or absent, at the end.

    Removed on an error, and then nothing is at `path`.
    """
    partial = path.with_name(f".{path.name[:40]}.{_owner()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.is_dir():
            path.rmdir()
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a file whole or not at all."""
    with whole_file(path, durable) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(value), indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError, which names the file, where it is missing or holds no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {quoted(error)}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object.")
    return value


def _owner() -> str:
    return f"{os.getpid()}-{threading.get_ident()}"

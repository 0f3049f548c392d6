"""Finds and checks the safetensors files that hold a component's weights.

A folder may have the same weights in two precisions: `model.safetensors` and `model.fp16.safetensors`, which diffusers
calls a variant. Either may be one file, or several with an index that lists them.
"""

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import UserError, quoted
from ..files import read_json, write_json

# diffusers' name, transformers' name.
STEMS = ("diffusion_pytorch_model", "model")
PICKLES = (".bin", ".ckpt", ".pt", ".pth")

PLAIN_DTYPES = frozenset(("F32", "F16", "BF16", "I64", "U32"))
SCALE_KEY = re.compile(r"\.(scale_\w+|\w+_scale(_\w+)?|SCB|comfy_quant|weight_format)$|scaled_fp8$")
"""Keys of what belongs to weights in 8 bits (`float8`)."""

HALF_PRECISION = ("fp16", "bf16")

LARGE = 64 * 2**20
"""Bytes of a file whose hash is kept; that of 2 GB takes 1.5 s."""
MAX_HASHES = 200

FORMS = (
    "{stem}{variant}.safetensors",
    # The index of today's diffusers and transformers, and those of earlier versions of diffusers.
    "{stem}.safetensors.index{variant}.json",
    "{stem}.safetensors{variant}.index.json",
    "{stem}{variant}.safetensors.index.json",
)

PICKLE_FORMS = (
    "{stem}{variant}.bin",
    "{stem}.bin.index{variant}.json",
    "{stem}.bin{variant}.index.json",
    "{stem}{variant}.bin.index.json",
)

PICKLE_WAY = (
    "genmoji generate and convert read its weights with --allow-pickle (in Python allow_pickle=True), "
    "which runs nothing"
)


def find_weights(
    folder: Path, half: bool = False, variant: str | None = None, allow_pickle: bool = False
) -> list[Path]:
    """The files that together hold a component's weights once.

    half: prefer half precision if the folder has both; else full precision. variant: the name of the one to use
    instead ("fp16"); "" is the one without a name. allow_pickle: PyTorch's files will do where there are no others.
    Raises UserError if there is none, if there are only pickles, or if a file that an index lists is missing.
    """
    variants = ("", *HALF_PRECISION) if not half else (*HALF_PRECISION, "")
    names = variants if variant is None else (variant,)
    for forms in (FORMS, PICKLE_FORMS) if allow_pickle else (FORMS,):
        for name in names:
            for path in _candidates(folder, name, forms):
                if path.is_file():
                    return _listed(path) if path.suffix == ".json" else [path]
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    if pickles and not variant:
        can_be_read = any(path.is_file() for name in names for path in _candidates(folder, name, PICKLE_FORMS))
        raise UserError(
            f"{folder} holds {pickles[0]}, a pickle, which can run any code: only .safetensors files are read"
            f"{f'; {PICKLE_WAY}' if can_be_read else ''}."
        )
    needed = " or ".join(path.name for path in _candidates(folder, variant or "", FORMS) if path.suffix != ".json")
    raise UserError(f"{folder} holds no weights: {needed} is missing.")


class Weights:
    """The weight files that a model was loaded from.

    sha256: a hash of their contents in their order, computed on first use.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(_sha256(path))
        return digest.hexdigest()


def weights_sha256(*folders: Path) -> str:
    """The hash of the full-precision weights in the folders of components: `Weights.sha256`."""
    return Weights([path for folder in folders for path in find_weights(folder)]).sha256


def _sha256(path: Path) -> bytes:
    blob = path.resolve()
    # The hub's cache names a large file's blob by its SHA-256.
    if path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return bytes.fromhex(blob.name)
    status = path.stat()
    if status.st_size < LARGE:
        return _computed_sha256(path)
    # The same place, size, time and inode: the same file.
    key = json.dumps([str(blob), status.st_size, status.st_mtime_ns, status.st_ino])
    known = _known_hashes()
    if not re.fullmatch(r"[0-9a-f]{64}", str(known.get(key))):
        known[key] = _computed_sha256(path).hex()
        _keep_hashes(known)
    return bytes.fromhex(known[key])


def _computed_sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hashes_file() -> Path:
    """Where the hashes of large files are kept: in `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-genmoji" / "hashes.json"


def _known_hashes() -> dict[str, Any]:
    try:
        return read_json(_hashes_file())
    except UserError:
        return {}


def _keep_hashes(hashes: dict[str, Any]) -> None:
    """Keep the newest hashes. A cache that cannot be written costs time alone."""
    with suppress(OSError):
        write_json(_hashes_file(), dict(list(hashes.items())[-MAX_HASHES:]))


def check_safetensors(path: Path) -> None:
    """Raises UserError if the header is damaged or does not match the file size; MLX would read past the end."""
    try:
        with safe_open(path, "numpy"):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or was not downloaded whole: {quoted(error)}.") from None


def header_of(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: by key the dtype, shape and place of a tensor, and "__metadata__".

    Raises UserError if the file is damaged.
    """
    check_safetensors(path)
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert isinstance(header, dict)
    return header


def is_plain(path: Path) -> bool:
    """Whether MLX reads a file as it is: safetensors whose tensors have at least 16 bits and no scales of weights."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    if path.suffix != ".safetensors" or head[8:] != b"{":
        return False
    header = header_of(path)
    dtypes = {entry["dtype"] for key, entry in header.items() if key != "__metadata__"}
    return dtypes <= PLAIN_DTYPES and not any(SCALE_KEY.search(key) for key in header)


def _candidates(folder: Path, variant: str, forms: Sequence[str]) -> Iterator[Path]:
    for stem in (*STEMS, "pytorch_model") if forms is PICKLE_FORMS else STEMS:
        for form in forms:
            yield folder / form.format(stem=stem, variant=f".{variant}" if variant else "")


def _listed(index: Path) -> list[Path]:
    """The files that an index lists. Raises UserError if one is missing or not in the index's own folder."""
    weight_map = read_json(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    for name in names:
        is_file_name = isinstance(name, str) and name.isprintable() and Path(name).name == name
        suffix = ".bin" if ".bin" in index.name else ".safetensors"
        if not is_file_name or Path(name).suffix != suffix:
            raise UserError(
                f"{index} lists {quoted(repr(name))}, which is not the name of a {suffix[1:]} file in its folder."
            )
    if not names:
        raise UserError(f"{index} lists no files in its weight_map.")
    files = [index.with_name(name) for name in sorted(set(names))]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}, which {index.name} lists, is missing: was the download complete?")
    return files

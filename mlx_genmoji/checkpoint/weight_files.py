"""Which safetensors files of a component's folder hold its weights, and whether they are whole.

A folder may hold the same weights twice, in full and in half precision: `model.safetensors` beside
`model.fp16.safetensors`, in diffusers' word a variant. Each may be one file, or several with an index that lists them.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import UserError, quoted
from ..files import read_json

# diffusers' name, transformers' name.
STEMS = ("diffusion_pytorch_model", "model")
PICKLES = (".bin", ".ckpt", ".pt", ".pth")

HALF_PRECISION = ("fp16", "bf16")

FORMS = (
    "{stem}{variant}.safetensors",
    # As diffusers and transformers write an index now, and as diffusers wrote it before.
    "{stem}.safetensors.index{variant}.json",
    "{stem}.safetensors{variant}.index.json",
    "{stem}{variant}.safetensors.index.json",
)


def find_weights(folder: Path, half: bool = False, variant: str | None = None) -> list[Path]:
    """The files that hold a component's weights, together once.

    Of a folder that has both, full precision; with `half`, half precision. `variant` names the one to use instead, ""
    being the one without a name. Raises UserError where there is none, or a file that an index lists is missing;
    pickles are refused by name.
    """
    variants = ("", *HALF_PRECISION) if not half else (*HALF_PRECISION, "")
    for name in variants if variant is None else (variant,):
        for path in _candidates(folder, name):
            if path.is_file():
                return [path] if path.suffix == ".safetensors" else _listed(path)
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    if pickles and not variant:
        raise UserError(
            f"{folder} holds {pickles[0]}, a pickle, which can run any code: only .safetensors files are read."
        )
    needed = " or ".join(path.name for path in _candidates(folder, variant or "") if path.suffix == ".safetensors")
    raise UserError(f"{folder} holds no weights: {needed} is missing.")


class Weights:
    """The weight files that a model was loaded from.

    sha256: a hash of their contents, in this order; computed when it is first asked for.
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
    """The hash of the full-precision weights of components, as `Weights` computes it."""
    return Weights([path for folder in folders for path in find_weights(folder)]).sha256


def _sha256(path: Path) -> bytes:
    blob = path.resolve()
    # The hub's cache names the content of a large file by its SHA-256.
    if path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return bytes.fromhex(blob.name)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def check_safetensors(path: Path) -> None:
    """Raises UserError where the header is damaged, or describes more or less than the file holds: MLX reads on."""
    try:
        with safe_open(path, "numpy"):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or was not downloaded whole: {quoted(error)}.") from None


def _candidates(folder: Path, variant: str) -> Iterator[Path]:
    for stem in STEMS:
        for form in FORMS:
            yield folder / form.format(stem=stem, variant=f".{variant}" if variant else "")


def _listed(index: Path) -> list[Path]:
    """The files of an index. They lie beside it, whatever it says."""
    listed = read_json(index).get("weight_map")
    names = list(listed.values()) if isinstance(listed, dict) else []
    for name in names:
        plain = isinstance(name, str) and name.isprintable() and Path(name).name == name
        if not plain or Path(name).suffix != ".safetensors":
            raise UserError(
                f"{index} lists {quoted(repr(name))}, which is not the name of a safetensors file beside it."
            )
    if not names:
        raise UserError(f"{index} lists no files in its weight_map.")
    files = [index.with_name(name) for name in sorted(set(names))]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is missing, which {index.name} lists: was the download complete?")
    return files

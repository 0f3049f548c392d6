"""Which safetensors files of a component's folder hold its weights, and whether they are whole.

A folder may hold the same weights twice, in full and in half precision: `model.safetensors` beside
`model.fp16.safetensors`, in diffusers' word a variant. Each may be one file, or several with an index that lists them.
"""

import hashlib
from collections.abc import Iterator
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


def weights_sha256(*folders: Path) -> str:
    """A hash of the files that hold the weights of components, in this order."""
    digest = hashlib.sha256()
    for path in (path for folder in folders for path in find_weights(folder)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


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

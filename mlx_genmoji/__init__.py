"""Text in, a genmoji out, on your own machine.

    from mlx_genmoji import Genmoji

    Genmoji.load().generate("flying pig")[0].save("pig.png")

Importing this package imports neither MLX nor a model: the names below are fetched when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backend import keep_memory, prefer_openblas
from .errors import Cancelled, UserError

if TYPE_CHECKING:
    from .pipeline import Genmoji
    from .sticker import Sticker

    __version__: str

__all__ = ["Cancelled", "Genmoji", "Sticker", "UserError"]

_MODULES = {"Genmoji": "pipeline", "Sticker": "sticker"}

# Here, because every module of the package that imports MLX comes after this line.
prefer_openblas()
keep_memory()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Imported here: it takes 15 ms, which every command would wait for.
        from importlib.metadata import version

        return version("mlx-genmoji")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES, "__version__"]

"""Text in, a genmoji out, on your own machine.

    import mlx_genmoji

    mlx_genmoji.use_fast_cpu()  # on Linux: MLX computes several times faster; before anything imports MLX
    mlx_genmoji.Genmoji.load().generate("flying pig")[0].save("pig.png")

Importing this package imports neither MLX nor a model, and changes nothing of the process: `Genmoji` and `Sticker` are
imported when they are first used, as is `make_pack`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backend import use_fast_cpu
from .errors import Cancelled, UserError

if TYPE_CHECKING:
    from .packs.make import make_pack
    from .pipeline import Genmoji
    from .sticker import Sticker

    __version__: str

__all__ = ["Cancelled", "Genmoji", "Sticker", "UserError", "make_pack", "use_fast_cpu"]

_MODULES = {"Genmoji": "pipeline", "Sticker": "sticker", "make_pack": "packs.make"}


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

"""coremltools, the library that knows Core ML's file formats: optional, slow to import, and quiet here."""

import logging
from importlib import import_module
from types import ModuleType

from mlx_genmoji.errors import UserError
from mlx_genmoji.extras import install_command


def import_coremltools(module: str = "coremltools") -> ModuleType:
    """coremltools or its `module`, without what it logs about versions it was not tested with and parts only Macs have.

    Raises UserError with the command that installs it where it is missing.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "coremltools":
            raise
        raise UserError(
            f"Core ML packages need coremltools, on Python 3.13 or older: {install_command('export')}"
        ) from None

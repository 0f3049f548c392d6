"""The optional parts of this installation, and the command that adds one to it: pip, uv or pipx, from where it came."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

PACKAGE = "mlx-genmoji"

EXTRAS = {"app": "gradio", "export": "coremltools", "heic": "pillow_heif", "scrape": "selectolax"}
"""A module of each extra of pyproject.toml, by which it is known to be there."""


def installed(extra: str) -> bool:
    """Whether an extra of this package is installed."""
    return find_spec(EXTRAS[extra]) is not None


def install_command(extra: str) -> str:
    """The command that adds an extra to this installation."""
    wanted = f"{PACKAGE}[{extra}]"
    origin, editable = _origin()
    if origin.startswith("file:"):
        wanted = f"{unquote(urlsplit(origin).path)}[{extra}]"
    elif origin:
        wanted = f"{wanted} @ {origin}"
    return f'{_installer()} {"-e " if editable else ""}"{wanted}"'


def _installer() -> str:
    """The beginning of a command that installs into the environment that this Python runs in."""
    folders = Path(sys.prefix).parts
    if "tools" in folders and "uv" in folders:
        return "uv tool install --force"
    if "pipx" in folders:
        return "pipx install --force"
    if find_spec("pip") is None:
        return f"uv pip install --python {sys.executable}"
    return f"{sys.executable} -m pip install"


def _origin() -> tuple[str, bool]:
    """Where the package was installed from, "" for an index, and whether in place (pip install -e).

    Source: PEP 610, direct_url.json.
    """
    try:
        text = distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    record = json.loads(text) if text else {}
    vcs = record.get("vcs_info")
    url = str(record.get("url", ""))
    editable = bool(record.get("dir_info", {}).get("editable"))
    return (f"{vcs['vcs']}+{url}" if vcs else url), editable

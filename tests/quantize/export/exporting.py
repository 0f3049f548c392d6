"""Exports for tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from quantize.export import Options, Source, export_coreml


def export(model: Path | None, output: Path, *adapters: Path, **options: Any) -> dict[str, Any]:
    """Export a model, without the warnings that random weights in few bits cause; the contents of export.json."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export_coreml(Source(model, [(path, 1.0) for path in adapters]), output, Options(**options))

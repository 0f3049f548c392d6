"""The `genmoji` command: checks where its five packages come from, makes MLX fast, then calls `app.cli`.

`app`, `scrape`, `train` and `quantize` are common names. Where the Python path has somebody else's first, the command
says so in one sentence, exit code 2, instead of failing somewhere inside.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from mlx_genmoji import use_fast_cpu

PACKAGES = ("app", "scrape", "train", "quantize", "mlx_genmoji")
STOPPED = 130
"""The exit code after Ctrl-C."""
ROOT = Path(__file__).resolve().parent.parent


def strangers() -> dict[str, str]:
    """Those of our packages that Python would import from another place than this file's, and from where."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        origin = spec.origin if spec is not None else None
        if origin is None or Path(origin).resolve().parent.parent != ROOT:
            found[package] = origin or "nowhere"
    return found


def main() -> int:
    """Run `genmoji` on the command line's arguments, and return its exit code."""
    found = strangers()
    if found:
        where = ", ".join(f"{package} ({origin})" for package, origin in found.items())
        print(f"genmoji: the Python path has other packages under genmoji's names: {where}.", end=" ", file=sys.stderr)
        print("Take them off PYTHONPATH, or install genmoji into an environment of its own.", file=sys.stderr)
        return 2

    # While modules are imported, and when all is done, Ctrl-C ends the process at once. Between, it is a
    # KeyboardInterrupt, which the command line turns into a sentence after the files are closed.
    signal.signal(signal.SIGINT, _stop)
    use_fast_cpu()
    from app.cli import main as cli_main

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return cli_main()
    except KeyboardInterrupt:
        _stop()
        return STOPPED
    finally:
        signal.signal(signal.SIGINT, _stop)


def _stop(*_: object) -> None:
    """End the process without a traceback."""
    print("genmoji: stopped.", file=sys.stderr)
    os._exit(STOPPED)


if __name__ == "__main__":
    # `python -m` puts the working folder first on the path, where a user may well have a train.py or an app.py.
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

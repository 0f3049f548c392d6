"""Draw each line of a text file. A batch that was stopped goes on where it stopped: files that are there are skipped.

    python examples/batch.py prompts.txt --output emoji

Line 7 becomes emoji/007.png. A file appears only when it is whole, so a killed batch leaves no half one behind. A line
that cannot be drawn is reported, and the batch goes on with the next.
"""

import argparse
import sys
from pathlib import Path

from mlx_genmoji import Genmoji, UserError


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw each line of a text file.")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--output", type=Path, default=Path("emoji"), metavar="FOLDER")
    arguments = parser.parse_args()

    genmoji = Genmoji.load()
    arguments.output.mkdir(parents=True, exist_ok=True)
    failures = 0
    for number, line in enumerate(arguments.prompts.read_text(encoding="utf-8").splitlines(), 1):
        path = arguments.output / f"{number:03}.png"
        if not line.strip() or path.exists():
            continue
        try:
            genmoji.generate(line, seed=number)[0].save(path)
            print(f"{path}: {line}")
        except UserError as error:
            failures += 1
            print(f"line {number}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Draws the captions of the held-out combinations that the composition benchmark asks for, into compositions.txt.

    python tests/benchmarks/draw_compositions.py [DATA]     # DATA holds the folders fluent/ and noto/, with originals

They were drawn once, before any model was trained on compositions, and committed. Each combination has one of the
phrases of its kind; the emoji sets alternate. The number in the last column assembles the same combination from the
set's emoji: `Composer.combine(source, kind, first, second, number)`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scrape.compose import Composer, held_out

SOURCES = ("fluent", "noto")
SEED = 7
FILE = Path(__file__).with_name("compositions.txt")

# The phrase that everybody tries first.
WANTED = {("pig", "wings"): "flying pig"}


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    composer = Composer([data / source for source in SOURCES], 128, SEED)
    lines = ["caption\tkind\tfirst\tsecond\tsource\tnumber"]
    for place, (kind, first, second) in enumerate(held_out().values()):
        source = SOURCES[place % len(SOURCES)]
        for number in range(1000):
            plan = composer.combine(source, kind, first, second, number)
            if plan is not None and WANTED.get(plan.parts, plan.caption) == plan.caption:
                break
        else:
            raise SystemExit(f"{source} cannot draw {first} and {second}.")
        lines.append("\t".join((plan.caption, kind, first, second, source, str(number))))
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 1} captions -> {FILE.name}")


if __name__ == "__main__":
    main()

"""Draws the 200 captions that the picture benchmark asks the built-in model for, into captions.txt.

    python tests/benchmarks/draw_captions.py [DATA]     # DATA holds the folders fluent/ and noto/

They were drawn once, before the model was trained, and committed, so that no caption was chosen for its picture. The
draw is uniform over the distinct training captions of rows without a skin tone, with a fixed seed.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

COUNT = 200
SEED = 2
STYLES = {"fluent": "3d", "noto": "flat"}
CAPTIONS = Path(__file__).with_name("captions.txt")


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    candidates: dict[str, tuple[str, str, str, str]] = {}
    for source, style in STYLES.items():
        for line in (data / source / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            caption = f"{row['text']}, {style}"
            if not row["skin_tone"]:
                candidates.setdefault(caption, (caption, row["label"], row["hexcode"], source))
    drawn = sorted(random.Random(SEED).sample(sorted(candidates), COUNT))
    lines = ["\t".join(candidates[caption]) for caption in drawn]
    CAPTIONS.write_text("caption\tlabel\thexcode\tsource\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{COUNT} of {len(candidates)} captions -> {CAPTIONS.name}")


if __name__ == "__main__":
    main()

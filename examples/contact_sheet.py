"""Draw four candidates of a prompt and put them side by side on one sheet, to choose from.

    python examples/contact_sheet.py "flying pig"

Candidate i of seed s is what seed s + i draws alone, so the chosen one can be drawn again by its own seed.
"""

import argparse

from PIL import Image

from mlx_genmoji import Genmoji

COLUMNS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw candidates on one sheet.")
    parser.add_argument("prompt", nargs="?", default="flying pig")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    stickers = Genmoji.load().generate(arguments.prompt, count=arguments.count, seed=arguments.seed)
    width, height = stickers[0].image.size
    rows = -(-len(stickers) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for index, sticker in enumerate(stickers):
        row, column = divmod(index, COLUMNS)
        sheet.paste(sticker.image, (column * width, row * height))
        print(f"row {row + 1}, column {column + 1}: seed {sticker.recipe['seed']}")
    sheet.save("contact-sheet.png")


if __name__ == "__main__":
    main()

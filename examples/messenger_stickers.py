"""Draw emoji and write each as a sticker for several messengers, every file within its messenger's limits.

python examples/messenger_stickers.py "red apple" "octopus" --for telegram --for whatsapp
"""

import argparse
from pathlib import Path

from mlx_genmoji import Genmoji


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw stickers for messengers.")
    parser.add_argument("prompts", nargs="*", default=["red apple"])
    parser.add_argument("--for", dest="targets", action="append", help="slack, telegram and so on; repeatable")
    parser.add_argument("--output", type=Path, default=Path("stickers"), metavar="FOLDER")
    arguments = parser.parse_args()

    genmoji = Genmoji.load()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(arguments.prompts, 1):
        (sticker,) = genmoji.generate(prompt, seed=number)
        for target in arguments.targets or ["slack", "telegram", "whatsapp"]:
            for name, data in sticker.export(target, f"{number}-{target}").items():
                path = arguments.output / name
                path.write_bytes(data)
                print(f"{path}: {len(data):,} bytes")


if __name__ == "__main__":
    main()

"""What targets take, by file: format, size and most bytes. Written anew, not read from the library's table."""

TAKEN: dict[str, dict[str, tuple[str, tuple[int, int] | None, int]]] = {
    "slack": {"pig.png": ("PNG", (128, 128), 128_000)},
    "discord-emoji": {"pig.png": ("PNG", (128, 128), 256_000)},
    "discord-sticker": {"pig.png": ("PNG", (320, 320), 512_000)},
    "telegram": {"pig.webp": ("WEBP", None, 512_000)},
    "whatsapp": {"pig.webp": ("WEBP", (512, 512), 100_000), "pig-tray.png": ("PNG", (96, 96), 50_000)},
    "signal": {"pig.webp": ("WEBP", (512, 512), 300_000)},
    "telegram-emoji": {"pig.webp": ("WEBP", (100, 100), 512_000)},
    "line": {
        "pig.png": ("PNG", (320, 320), 1_000_000),
        "pig-main.png": ("PNG", (240, 240), 1_000_000),
        "pig-tab.png": ("PNG", (74, 74), 1_000_000),
    },
    "imessage": {f"pig-{side}.png": ("PNG", (side, side), 500_000) for side in (300, 408, 618)},
    "favicon": {
        "favicon.ico": ("ICO", (48, 48), 100_000),
        "favicon-16x16.png": ("PNG", (16, 16), 100_000),
        "favicon-32x32.png": ("PNG", (32, 32), 100_000),
        "apple-touch-icon.png": ("PNG", (180, 180), 500_000),
        "icon-192.png": ("PNG", (192, 192), 500_000),
        "icon-512.png": ("PNG", (512, 512), 500_000),
    },
}

"""Draws the README's pictures of the demo, docs/pictures/demo-*.png: the real page, in Chromium.

python tests/benchmarks/draw_demo.py
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

# Before MLX.
import fast_cpu  # noqa: F401

# isort: split

from playwright.sync_api import sync_playwright

from app.demo.server import running_server

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PROMPTS = ("octopus", "cat riding a skateboard", "flying pig")
LOOKS = {
    "light": {"viewport": {"width": 1080, "height": 900}},
    "dark": {"viewport": {"width": 1080, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def main() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    with running_server({"builtin": "builtin"}, {}, port=port) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, look in LOOKS.items():
            context = browser.new_context(**look)
            context.set_default_timeout(300_000)
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector(".tile")
            for prompt in PROMPTS:
                draw(page, prompt)
            # Not halfway from one state to another.
            page.wait_for_selector("#draw:enabled")
            page.wait_for_selector("#cancel", state="hidden")
            page.screenshot(path=PICTURES / f"demo-{name}.png", animations="disabled")
            context.close()
        browser.close()


def draw(page: Any, prompt: str) -> None:
    page.locator("#prompt textarea, #prompt input").first.fill(prompt)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "prompt => { const said = document.querySelector('.says').textContent;"
        " return said.startsWith(prompt) && said.includes('seed') }",
        arg=prompt,
    )


if __name__ == "__main__":
    main()

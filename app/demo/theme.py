"""How the page looks: system fonts and one accent colour. Nothing is fetched from another site."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

# An SVG in a data URI, so that no file is fetched.
ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100'><circle cx='50' cy='50' r='44' fill='%23ffc83d'/>"
    "<circle cx='35' cy='42' r='6'/><circle cx='65' cy='42' r='6'/>"
    "<path d='M30 60q20 20 40 0' fill='none' stroke='%23000' stroke-width='6' stroke-linecap='round'/></svg>"
)
# The script makes Esc cancel the drawing, wherever the focus is.
HEAD = f"""
<link rel="icon" href="data:image/svg+xml,{ICON}">
<script>
document.addEventListener('keydown', event => {{
  if (event.key === 'Escape') document.querySelector('#cancel')?.click()
}})
</script>
"""

SANS = ("ui-rounded", "SF Pro Rounded", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.gray,
        radius_size=gr.themes.sizes.radius_lg,
        font=list(SANS),
        font_mono=list(MONO),
    )

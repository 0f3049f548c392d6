"""Collect a dataset: emoji pictures with captions, in the Hugging Face ImageFolder convention.

`collect("noto", Path("data/noto"))` makes one; `SOURCES` lists what it can be made of.
"""

from .dataset import Report
from .errors import ScrapeError
from .font import collect_font
from .sets import Source
from .sources import SOURCES, collect

__all__ = ["SOURCES", "Report", "ScrapeError", "Source", "collect", "collect_font"]

"""Collect a dataset: emoji pictures with captions, in the Hugging Face ImageFolder convention.

`collect("noto", Path("data/noto"))` makes one; `SOURCES` lists what it can be made of.
"""

from .dataset import Report, Source
from .errors import ScrapeError
from .sources import SOURCES, collect

__all__ = ["SOURCES", "Report", "ScrapeError", "Source", "collect"]

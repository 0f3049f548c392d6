"""Collect a dataset: emoji pictures with captions, in the Hugging Face ImageFolder convention.

`collect("noto", Path("data/noto"))` makes a dataset of an image set (`SOURCES` lists them), `collect_font` of a colour
font, `collect_folder` of a user's pictures, `collect_emojigraph` of a web site. `merge` joins datasets, `compose`
combines their emoji to new pictures, `synonyms` gives their emoji other names, `languages` lists their names in other
languages, `outlines` the outlines of pale ones, and `summarize` counts their pictures.
"""

from .compose import Composer, compose
from .dataset import Report
from .emojigraph import CrawlReport, collect_emojigraph
from .errors import ScrapeError
from .font import collect_font
from .languages import languages
from .merge import merge
from .outlines import outlines
from .own_pictures import collect_folder
from .sets import Source
from .sources import SOURCES, collect
from .summary import Summary, summarize
from .synonyms import synonyms

__all__ = [
    "SOURCES",
    "Composer",
    "CrawlReport",
    "Report",
    "ScrapeError",
    "Source",
    "Summary",
    "collect",
    "collect_emojigraph",
    "collect_folder",
    "collect_font",
    "compose",
    "languages",
    "merge",
    "outlines",
    "summarize",
    "synonyms",
]

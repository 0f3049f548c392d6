"""Collect emojigraph.org, or a site laid out like it: the pictures of one vendor and the description of each emoji.

`collect_emojigraph(Path("data/apple"))` makes or renews a dataset. The modules, in the order a crawl meets them:
`client` fetches politely, `pages` reads the site's HTML, `images` checks and draws what was fetched, `state` remembers,
`rows` says what a picture shows, `folder` writes, and `crawl` runs them.
"""

from .collect import CrawlReport, collect_emojigraph
from .patience import Patience

__all__ = ["CrawlReport", "Patience", "collect_emojigraph"]

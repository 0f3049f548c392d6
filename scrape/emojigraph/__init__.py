"""Collect emojigraph.org, or a site laid out like it: the pictures of one vendor and the description of each emoji.

`collect_emojigraph(Path("data/apple"))` makes or renews a dataset. `crawl` runs it: `client` fetches, within
`rate_limit`, `robots` and `retry_policy`; `pages` reads the site's HTML; `images` checks and draws the pictures;
`crawl_state` records the progress; `rows` and `writer` make the dataset.
"""

from .collect import collect_emojigraph
from .order import CrawlReport
from .retry_policy import Patience

__all__ = ["CrawlReport", "Patience", "collect_emojigraph"]

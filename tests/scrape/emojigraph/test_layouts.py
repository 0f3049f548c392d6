"""What is understood of the site, and what is said where nothing is."""

from pathlib import Path

import pytest
from folders import Collect, reasons, rows
from local_site import (
    Listed,
    LocalSite,
    emoji_page,
    file,
    html,
    list_page,
    png,
)

from scrape import ScrapeError
from scrape.emojigraph.pages import read_page


def test_an_emoji_that_emojibase_does_not_know_is_named_by_the_site(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path
) -> None:
    new = [
        Listed("1fae9-200d-2640-fe0f", "brand-new", png(500)),
        Listed("1f468-200d-1fae9", "new-man", png(501)),
        Listed("1f301-1f3fb-1f3ff", "two-things", png(502)),
    ]
    site.routes["/apple/"] = file(list_page(listed + new).encode(), "text/html")
    for emoji in new:
        site.routes[emoji.image], site.routes[emoji.page] = file(emoji.picture), html(emoji_page(emoji))
    assert collect().images == 15
    collected = rows(out)
    assert list(collected)[6:8] == ["1F301", "1F301-1F3FB-1F3FF"]
    assert list(collected)[-2:] == ["1F468-200D-1FAE9", "1FAE9-200D-2640-FE0F"]
    woman, man, two = (collected[name] for name in ("1FAE9-200D-2640-FE0F", "1F468-200D-1FAE9", "1F301-1F3FB-1F3FF"))
    assert (woman["label"], woman["person_type"], woman["group"]) == ("brand new", "woman", None)
    assert (man["label"], man["person_type"], man["skin_tone"]) == ("new man", "man", [])
    assert (two["label"], two["skin_tone"], two["base_hexcode"]) == ("thing 1", ["light", "dark"], "1F301")
    assert two["text"] == "thing 1, light and dark skin tones"


@pytest.mark.parametrize(
    "page",
    [
        "<div id=category__first><div class='row cva'><a class=pim href=/thing-0/><img src={0}></a></div></div>",
        "<div id=category__first><p><a href=/apple/thing-0/><b><img data-src=..{0} src=/spinner.gif></b></a></p></div>",
        "<div id=category__first><div class='row cva'><a class=pim href=/><img src=/logo.png></a></div></div>"
        "<a href=/thing-0/><img src=/media/apple/thing-0_1f300.png></a>",
        "<a href=/thing-0><u><img src=/media/144/apple/thing-0_1f300.png></u></a><a href=/><img src=/logo.png></a>",
    ],
)
def test_several_layouts_of_a_list_are_understood(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str, page: str
) -> None:
    site.routes["/apple/"] = html(page.format(listed[0].image))
    report = collect()
    assert report.complete, report
    (row,) = rows(out).values()
    assert (row["source_url"], row["page_url"]) == (url + listed[0].image, f"{url}/thing-0/")
    assert row["description"] == listed[0].description


@pytest.mark.parametrize(
    "page",
    [
        "<div class=emoji__copy>x</div><h2>y</h2><p> <p>It means\n this.",
        "<h1 class=emoji__title>x</h1><p>It means this.</p>",
        "<h1>x</h1><p>It means <b>this</b>.</p>",
        "<section itemprop=description>It means <i>th</i>is.</section>",
    ],
)
def test_several_layouts_of_an_emojis_page_are_understood(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, page: str
) -> None:
    for emoji in listed:
        site.routes[emoji.page] = html(page)
    assert collect().complete
    assert {row["description"] for row in rows(out).values()} == {"It means this."}


def test_a_list_that_no_selector_fits_is_reported_as_such(collect: Collect, site: LocalSite) -> None:
    site.routes["/apple/"] = html("<p>We have a new design</p>")
    with pytest.raises(
        ScrapeError, match=r"none of our selectors finds a picture there \(#category__first.*may have changed"
    ):
        collect()


def test_a_page_that_no_selector_fits_is_reported_and_its_picture_kept(
    collect: Collect, site: LocalSite, listed: list[Listed], out: Path, url: str
) -> None:
    site.routes[listed[2].page] = html("<article>something else</article>")
    report = collect()
    assert report.images == 12 and not report.complete
    (reason,) = reasons(out, url).values()
    assert reason.startswith("none of our selectors finds a description (.emoji__copy ~ p, ")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("Cats &amp;amp; dogs", "Cats & dogs"),
        ("A &lt;b&gt;happy&lt;/b&gt; cat.", "A happy cat."),
        ("A&amp;nbsp;cat &amp;mdash; asleep", "A cat — asleep"),
        ("[caption id=1]A cat[/caption] [gallery]", "A cat"),
        ("A cat<script>alert(1)</script><style>p { color: red }</style>", "A cat"),
        ("A cat &lt;!-- wp:paragraph --&gt; asleep", "A cat asleep"),
        ("2 &lt; 3 and a [sic] cat", "2 < 3 and a [sic] cat"),
    ],
)
def test_a_description_has_no_residue_of_markup(markup: str, text: str) -> None:
    page = f"<html><body><h1>Cat</h1><p>{markup}</p></body></html>"
    assert read_page(page).description == text

"""Emoji put together by rule: what wings, a crown, a cup or a skateboard do to whatever has them.

`reading` reads a combination from a prompt by the wordings in `phrases`; `relations` lists the kinds of combination;
`anchors` says where on a drawing heads, eyes and seats are; `layouts` says where each part goes; `scenes` and
`rasterize` draw it; `assemble` puts together the parts that a model drew, `scrape.compose` those of a dataset.
"""

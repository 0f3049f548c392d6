"""Sticker packs: one subject in many moods, as the folders and archives that messengers import.

`moods` is the table of moods and how each is drawn; `messengers` the table of messengers and the files that each takes;
`sheet` draws the contact sheet; `make` draws the stickers and writes the pack.
"""

"""A dataset on its way into training.

    folders of pictures and metadata.jsonl
        -> dataset.py   rows that `data.where` asks for, their weights, pictures resized once
        -> captions.py  the caption template filled in: one text, or several where tags change
        -> latents.py   the pictures' latents, computed once
        -> ../batch.py  samples drawn by weight

Whatever takes long is kept on disk by `cached.py`, under a hash of everything that it was made of.
"""

from .dataset import Dataset, read_picture, to_model

__all__ = ["Dataset", "read_picture", "to_model"]

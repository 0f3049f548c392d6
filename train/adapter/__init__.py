"""Adapters: low-rank changes of a base model whose own weights stay frozen.

run.py         a recipe in, adapter.safetensors out
base.py        the base loaded, checked, and given layers to train
objective.py   the recipe's keys, and the loss of a batch (over ../denoising.py)
validation.py  held-out pictures, their loss in bands of noise
kept.py        adapters and pictures that a run keeps to choose from
memory.py      how much memory a run takes; dry_run.py  the layers, memory and time of a run
fusing.py      the adapter in the base's weights afterwards
compare.py     training over 16, 8 and 4 bits side by side
personas.py    one style, and from it an adapter for each skin tone and person type
"""

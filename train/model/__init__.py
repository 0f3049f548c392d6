"""A whole model, part by part; `../recipes/builtin.yaml` goes all the way, stage by stage.

autoencoder.py   pictures -> latents -> pictures, from nothing
growth.py        the same latents for pictures of twice the size
inner_layers.py  more training for the layers between, at a third of the cost
unet.py          the diffusion model over the latents (text_side.py before, vocabulary.py for its tokens)
decoder.py       latents, also those that the model draws, -> better pictures
"""

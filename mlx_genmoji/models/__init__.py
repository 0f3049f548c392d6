"""The networks of a Stable Diffusion checkpoint; their parameter paths are the checkpoint's own keys."""

"""The kinds of model that draw; a family brings its text side, latents, conditions and sampler."""

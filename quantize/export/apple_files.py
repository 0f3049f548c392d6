"""The names of packages and files that Apple's StableDiffusion package looks for in `Resources`.

They are those of `StableDiffusionPipeline+Resources.swift` and `StableDiffusionXLPipeline+Resources.swift`
(apple/ml-stable-diffusion).
"""

# By the folders of a diffusers model.
TEXT_ENCODERS = {"text_encoder": "TextEncoder", "text_encoder_2": "TextEncoder2"}
UNET = "Unet"
UNET_CHUNKS = ("UnetChunk1", "UnetChunk2")
VAE_DECODER = "VAEDecoder"
VAE_ENCODER = "VAEEncoder"

# The tokenizer.
VOCABULARY = "vocab.json"
MERGES = "merges.txt"

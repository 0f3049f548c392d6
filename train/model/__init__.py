"""Training a whole model: autoencoder, text side, UNet, decoder."""

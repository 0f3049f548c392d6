"""A workshop: shrinks a model to fewer bits and exports it. Empty so far."""

"""A dataset on its way into training: pictures and captions read, cached, and drawn by weight."""

"""The user interface: the `genmoji` command, one verb per capability, and the demo in a browser."""

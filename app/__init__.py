"""What people touch: the `genmoji` command, one verb per capability."""

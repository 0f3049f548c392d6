"""The verbs of the `genmoji` command, one file each: options in, the package that does the work, messages out."""

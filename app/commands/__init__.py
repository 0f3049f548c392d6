"""The verbs of the `genmoji` command, one file each: read options, call the package that does the work, print."""

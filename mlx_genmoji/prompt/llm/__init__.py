"""A language model that adds to a prompt what it leaves open: `rewriter` asks it, `protocol` is question and answer."""

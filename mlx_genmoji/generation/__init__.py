"""One drawing, step by step: `request` -> `denoise` -> `decode`, and its `recipe`."""

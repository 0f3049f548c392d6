"""Core ML packages for apps, from our modules' weights, and the proof that they compute what the modules do."""

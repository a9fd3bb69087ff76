"""Training pairs: a good face, and what degradations make of it."""

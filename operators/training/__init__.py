"""Training of the built-in models: one loop, one weights format."""

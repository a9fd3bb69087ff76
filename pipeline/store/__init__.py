"""Models by name: what is published, where it is kept, and how a worker gets it."""

"""Restored faces that became better and stayed themselves, kept as good faces for the next round of training."""

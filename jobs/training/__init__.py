"""Data for the training jobs, read from WebDataset shards."""

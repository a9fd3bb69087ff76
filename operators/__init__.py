"""What is done to images: torch and numpy; knows no Ray, no shard and no storage."""

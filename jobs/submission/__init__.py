"""What ``dr2e submit`` does: check a command here, pack what it needs, hand it to a Ray cluster, and follow it."""

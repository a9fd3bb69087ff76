"""What `dr2e models` shows."""

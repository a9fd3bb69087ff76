"""What `dr2e bench` measures."""

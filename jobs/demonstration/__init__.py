"""The parts of `dr2e demo`: photographs, their degraded copies, and what restoring them gained."""

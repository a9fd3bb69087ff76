"""Degradations a face suffers before it reaches us (Eq. 13) and those the enhancer learns to undo (Eq. 12)."""

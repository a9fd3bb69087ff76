"""How good a face looks (NIQE), how much of the person it kept (fidelity), and which candidate to take (selection)."""

"""Whole photographs, larger: bicubic, or by a super-resolution network in tiles."""

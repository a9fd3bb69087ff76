"""What of a face's crop is the person's: a mask to paste the face back with."""

"""Where faces are, how they are cut out upright, and how they go back into the photo."""

"""InternVL: what is made of a picture before the tower sees it."""

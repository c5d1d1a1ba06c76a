"""LLaVA 1.5, NeXT and OneVision: what is made of a picture before the tower sees it."""

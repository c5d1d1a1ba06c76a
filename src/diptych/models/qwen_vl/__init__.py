"""Qwen2-VL and Qwen2.5-VL: what is made of a picture before the tower sees it."""

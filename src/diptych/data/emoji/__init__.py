"""Emoji: a real set of drawings, each thing in up to seven styles."""

"""A procedural world of pictures whose truth is known exactly. NumPy and Pillow only.

Read in this order: `vocabulary` (what exists), `world` (where it stands), `shapes` and `render`
(how it looks), `captions`, `questions` and `grammar` (how it is spoken of), `judge` (whether a
picture is what a prompt asked for), then `edits`, `maps` and `clips`.

Lengths are in units: the picture is 64 units wide, whatever its size in pixels.
"""

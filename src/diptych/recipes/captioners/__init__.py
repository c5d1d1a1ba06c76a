"""The captioners of their time, trained on scenes.

Read in this order: `sayings` (the scenes and what is said of them), `eyes` (the detector that all
of them see through, and its features of a fixed set of scenes), `seen` (those features as kept in
files), `words` (the language model that some begin with), `recipe` (what all share), `networks`
(one row each), `scores`.
"""

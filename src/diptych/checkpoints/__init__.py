"""Row 4: files to modules and back, with full account, and how families of models are sampled.

`folder` is this project's own layout; `presets` the families.
"""

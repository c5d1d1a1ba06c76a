"""Diptych: words become pictures, pictures become words."""

__version__ = "0.1.0"

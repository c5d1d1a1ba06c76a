"""Diptych: words become pictures, pictures become words."""

from diptych.foundation.version import __version__ as __version__

"""Row 1: pictures in and out of files, recipes inside them, sheets."""

"""Row 3: networks, one architecture a file."""

"""Row 1: words to tokens and back."""

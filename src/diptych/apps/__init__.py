"""Row 8: applications without HTTP. `demo` shows both panels of the house on one page."""

"""Row 4: files to modules and back, with full account. `folder` is this project's own layout."""

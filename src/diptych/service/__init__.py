"""Row 9: the house over HTTP. Nothing here imports torch but the worker."""

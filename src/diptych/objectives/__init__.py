"""Row 3: losses. `loss` is what each of them returns."""

"""The engine's process: claims jobs, runs them, and says what became of them."""

"""How well models paint and read scenes: `prompts` (what is asked for), `painting`, `reading`."""

"""Row 2: numbers with intervals, from features and verdicts; no networks."""

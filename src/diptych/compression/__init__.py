"""Row 3: the same network with fewer bits. Read `int8` (linear maps in eight bits)."""

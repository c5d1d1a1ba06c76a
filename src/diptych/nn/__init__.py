"""Row 1: the blocks that networks are built of. Read `attention`, `positions`, `blocks`, `conv`."""

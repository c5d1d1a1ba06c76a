"""Row 2: worlds and sets, their readers and their order. Read `scenes` first."""

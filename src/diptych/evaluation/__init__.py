"""Row 7: suites and their rules. `scenes` is exact: the world knows what is true."""

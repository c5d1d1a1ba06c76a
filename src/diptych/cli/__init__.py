"""Row 10: the command line. One verb a file; it parses, calls, prints, and has no logic of its own.

Read in this order: `main` (the table of verbs, errors, exit codes), `parsing`, `console`
(progress), then any verb. A verb is a file with `add_arguments(parser)` and
`run(args) -> int | None`, and a row in `main.VERBS`. It imports heavy libraries inside `run`.
"""

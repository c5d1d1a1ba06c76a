"""Row 0: what every room stands on. Loads no heavy library.

Read in this order: `errors`, `extras`, `files`, `progress`, `randomness`, `config`, `records`,
`version`.
"""

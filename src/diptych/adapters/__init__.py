"""Row 3: small changes to large networks. Read `changes` (of one weight),
`fused` (of parts of one), `adapter` (of a model),
`merging` (into the weights and out again), `rows` (other adapters for other rows of a batch)."""

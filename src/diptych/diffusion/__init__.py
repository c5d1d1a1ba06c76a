"""Row 2: from noise to data, on plain callables and tensors.

`paths` say how data and noise are mixed, `spacings` where a solver stops between, `solvers` which
there are; `tables` hold their coefficients, and `kernel` makes the one step they share.
`predictions` tells what a network's output means, `guidance` asks it twice, `noise` has the seeds.
"""

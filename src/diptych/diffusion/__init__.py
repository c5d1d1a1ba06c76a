"""Row 2: from noise to data, on plain callables and tensors.

`paths` say how data and noise are mixed, `spacings` where a solver stops between, `predictions`
what a network's output means, `solvers` which there are; `tables` hold their coefficients, and
`kernel` makes the one step they share. `guidance` makes one answer of several, `noise` has the
seeds. `adaptive` and `langevin` are drivers of their own: they choose steps as they go.
"""

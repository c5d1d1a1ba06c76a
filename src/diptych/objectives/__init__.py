"""Row 3: losses. `loss` is what each of them returns.

Removing noise: `levels` draws where on a path a row is trained, `places` is that path for a whole
batch, `weights` says what each error counts, `denoising` is the loss; `flow_matching` and
`score_matching` are uses of it, `consistency` asks for the same answer along a whole flow. Beside
these: `autoencoding`, `answering`, `contrastive`.
"""

"""Words one by one, on plain callables and tensors: `slots` (keys and values of many texts),
`sampling` and `filters` (how a token is chosen), `beams`, `constraints`, `spelling` (tokens to
text that is whole)."""

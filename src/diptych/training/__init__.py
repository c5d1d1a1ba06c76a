"""Row 5: the loop that never looks into a batch.

Read in this order: `plan` (what is to be trained), `loop` (the training), `step` (one step of
it), `schedule`, `optimizers`, `average`, `batches`, `checkpoint`, `log`, `curve`, `trackers`,
`hardware`, `clock`, `lock`, `stop`. `weights` writes what a finished run leaves.
"""

"""Row 2: from noise to data. `flow` holds the path, `guidance` the two-sided question, `noise`
the seeds. All on plain callables and tensors."""

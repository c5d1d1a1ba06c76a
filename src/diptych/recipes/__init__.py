"""Row 8: what is trained, on what, judged how. `table` names them all and loads no torch.

A recipe is a frozen dataclass, one a file. Its fields are what `--set` changes, `training`
(a `training.plan.Settings`) among them; `build() -> Plan` makes what the loop needs, and
`finish(plan, run)` writes the model folder that everything else loads.
"""

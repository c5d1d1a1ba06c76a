"""What comes from outside is checked here before anything touches it; torch is never imported.

Read `problem` first (how a refusal is said), then `chain` (the order of the layers around the
application) and the gates by what they check: `json_gate`, `words`, `pictures`, `egress`.
"""

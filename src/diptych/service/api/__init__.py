"""HTTP: what people's programs and the page ask, checked by the guards and written as jobs.

Read `state` first (what the application is given), then `asking` (one request), `admitting` (how
a job comes in) and `app` (the table of routes). torch is never imported.
"""

"""Coefficients of solvers, one family a file: functions from a list of nodes to a `Table`."""

"""The contract with ``mace_run``: what we ask it as data, what it said as data.

Nothing outside this package knows one of its flags or log lines.
"""

"""What is kept of runs: the table in memory, the journal on disk, and the registry that changes both together.

Imports ``runs.callbacks``, ``runs.logs``, ``artifacts`` and ``errors``.
"""

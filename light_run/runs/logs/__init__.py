"""Following the logs of runs while they grow.

Imports ``engine.output``, ``runs.storage`` and ``errors``.
"""

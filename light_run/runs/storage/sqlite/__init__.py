"""The journal in a SQLite file.

Imports ``runs.storage``, ``runs.callbacks`` and ``errors``.
"""

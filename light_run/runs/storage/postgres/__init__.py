"""The journal in a PostgreSQL database, with psycopg. Nothing imports this package unless it is needed.

Imports ``runs.storage``, ``runs.callbacks`` and ``errors``.
"""

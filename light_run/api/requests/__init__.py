"""Reading and validating requests: bodies, JSON, multipart, archives and the schema of ``POST /run``.

Every reader is bounded in bytes, entries and time. Imports ``engine.spec``, ``runs`` and ``errors``.
"""

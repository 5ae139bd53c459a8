"""Uploads: multipart bodies, and archives that are unpacked while they arrive.

Imports the rest of ``api.requests``, ``engine.spec``, ``runs.ports`` and ``errors``.
"""

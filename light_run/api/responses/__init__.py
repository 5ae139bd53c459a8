"""Sending responses: JSON, errors, files, archives and log formats, with a timeout for slow readers.

Imports ``artifacts``, ``runs`` and ``errors``.
"""

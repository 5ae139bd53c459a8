"""Parked containers: created and started ahead of a request, each used for one run.

Imports ``engine.files``, ``engine.images``, ``engine.sandbox``, ``engine.upkeep`` and ``engine.daemon``.
"""

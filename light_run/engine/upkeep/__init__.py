"""Removal of what earlier runs and servers left at the engine and on the disk.

Imports ``engine.daemon`` and its sibling packages ``files`` and ``sandbox``.
"""

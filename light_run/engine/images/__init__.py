"""Images: found, pulled once for all runs that wait, or built from steps.

Imports ``engine.daemon`` and its sibling packages ``files``, ``sandbox`` and ``upkeep``.
"""

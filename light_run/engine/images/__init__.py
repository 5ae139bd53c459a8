"""Images: found, pulled once however many runs wait, or built from steps.

Imports ``engine.daemon`` and its sibling packages ``files``, ``sandbox`` and ``upkeep``.
"""

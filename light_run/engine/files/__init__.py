"""Files in and out of containers: workspaces, mounts, extraction and patterns.

What comes out of a container is hostile. Imports ``engine.daemon`` and its sibling packages ``sandbox`` and ``upkeep``.
"""

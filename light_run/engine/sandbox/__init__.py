"""The sandbox of a container: its options, networks, packet filter and disk limits.

Imports ``engine.daemon`` and its sibling packages ``files`` and ``upkeep``.
"""

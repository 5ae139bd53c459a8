"""From an accepted run to its end: admission, slots, the job in its slot, and recovery after a restart.

Imports ``runs.storage``, ``engine`` and ``errors``.
"""

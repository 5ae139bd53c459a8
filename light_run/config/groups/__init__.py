"""The settings by topic, one dataclass for each; `Settings` has the fields of all of them.

Imports ``config.readers``, ``config.variables`` and ``config.profiles``.
"""

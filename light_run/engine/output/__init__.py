"""The output of a run: taken from the engine's stream, spooled to disk, and read back as lines or as bytes.

Import from its modules; the package itself exports nothing. Imports ``engine.spec``.
"""

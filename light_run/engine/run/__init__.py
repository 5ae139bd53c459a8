"""One run in one container, from its image to its clean-up.

The supervisor uses every other package of the engine and is called by ``engine.runner`` only.
"""

"""Everything that speaks to the Docker Engine: the client, its connections, the event stream and errors.

Imports ``engine.stop``, ``engine.output``, ``engine.spec`` and ``errors``.
"""

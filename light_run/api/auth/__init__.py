"""Authentication and authorization: bearer tokens, scopes, throttling of wrong tokens, and browser origins.

Imports ``api.requests``, ``api.responses`` and ``runs``.
"""

"""One blueprint a file. Handlers parse, call the service and serialise; nothing else.

Imported by the API factory only.
"""

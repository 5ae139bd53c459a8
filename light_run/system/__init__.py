"""Operating-system primitives for hostile counterparts: trees that a program laid out, sockets of slow clients.

Imports nothing of ours.
"""

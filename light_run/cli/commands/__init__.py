"""The commands of ``light-run``, one module for each or for a group that belongs together.

Imports the rest of ``cli``, ``client``, ``config`` and ``errors``; ``serve`` and ``firewall`` import ``server`` late.
"""

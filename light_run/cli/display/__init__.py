"""What commands print: tables and progress bars, the output of runs, and a filter for control sequences.

Imports ``cli.server``, ``client`` and ``errors``.
"""

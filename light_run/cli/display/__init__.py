"""What commands print: tables and progress bars, the output of runs, and control sequences that are not let through.

Imports ``cli.server``, ``client`` and ``errors``.
"""

"""The checks of ``light-run doctor``: of this machine, of a server, and of what a run can reach.

Imports ``cli.display``, ``cli.server``, ``client``, ``config`` and ``errors``.
"""

"""Callbacks: delivery with retries, signatures, and the check of target addresses.

Imports ``runs.model``, ``artifacts`` and ``errors``.
"""

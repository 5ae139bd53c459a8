"""Lets pip builds that still call setup.py work; everything is declared in setup.cfg."""

from setuptools import setup

setup()

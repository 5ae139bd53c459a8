"""Settings: what the operator chooses, read from the environment once.

Everything here may be imported by the application, the server and the command line. Imports ``errors`` only.
"""

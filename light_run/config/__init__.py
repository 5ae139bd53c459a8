"""The settings of the server, read from the environment once, and the tokens file.

The application, the server and the command line may import this package. It imports ``errors`` only.
"""

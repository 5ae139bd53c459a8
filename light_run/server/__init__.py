"""The server process: gunicorn, its worker, the log, Prometheus metrics and the state directory.

``light-run serve`` starts the module ``gunicorn``; the application factory uses the other modules in the worker.
"""

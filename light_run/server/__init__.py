"""The server process: gunicorn, its worker, the log, Prometheus metrics and the state directory.

``gunicorn`` is what ``light-run serve`` starts; the other modules are used by the application factory inside a worker.
"""

"""gunicorn with this file: ``gunicorn -c deploy/gunicorn.conf.py``; the same as ``light-run serve``.

Address, threads and everything else come from the LIGHT_RUN_* variables.
"""

from __future__ import annotations

from light_run.config.settings import Settings

_settings = Settings.from_env()
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host

wsgi_app = "light_run:create_app()"
bind = f"{_host}:{_settings.port}"

# The table of runs is in the memory of one process: a second worker would not know them, and is refused.
workers = 1
worker_class = "light_run.server.gunicorn.JsonWorker"
# Beside those for requests that end soon, one for each client that follows a run.
threads = _settings.threads + _settings.max_followers
worker_connections = 1000 + _settings.max_followers

# Threads do not survive a fork: the application is made in the worker.
preload_app = False

# Requests last as long as their runs do: this is how long the worker itself may be without a sign of life.
timeout = 60
# Beside the time that runs get to end in: kill containers, send answers, close connections.
graceful_timeout = int(_settings.grace) + 25
# Longer than nginx keeps an idle connection, so that nginx never sends on one that is being closed.
keepalive = 75

# What gunicorn has to say is JSON on stderr, too; each request is logged by the application.
logger_class = "light_run.server.gunicorn.JsonLogger"
control_socket_disable = True

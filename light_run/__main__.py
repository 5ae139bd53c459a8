"""``python -m light_run`` is ``light-run``."""

from light_run.cli import main

if __name__ == "__main__":
    main(prog_name="light-run")

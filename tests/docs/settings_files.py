"""The table of settings in docs/reference/settings.rst and `.env.example`, both made from `light_run.config.settings`.

python -m tests.docs.settings_files      writes both; tests fail where they are out of date
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from light_run.config.settings import table
from light_run.config.variables import Variable

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.rst"
DOCS = REPOSITORY / "docs"
SETTINGS = DOCS / "reference" / "settings.rst"
# The README and the pages, in the order in which one shell executes their examples.
MANUAL = (
    README,
    *(
        DOCS / f"{page}.rst"
        for page in (
            "quickstart",
            *(f"guides/{name}" for name in ("first-run", "detached-runs", "files", "live-logs", "artifacts")),
            *(
                f"guides/{name}"
                for name in (
                    "cancelling",
                    "steps",
                    "networks",
                    "interactive",
                    "engines",
                    "sandbox",
                    "callbacks",
                    "command-line",
                    "python",
                )
            ),
            "guides/sdk",
            "guides/tokens",
            "guides/console",
            *(f"reference/{name}" for name in ("endpoints", "request", "state", "errors", "settings")),
            *(f"explanation/{name}" for name in ("how-it-works", "security")),
            *(
                "guides/deploying",
                "guides/monitoring",
                "guides/maintenance",
                "guides/tracing",
                "explanation/speed",
                "explanation/limits",
                "development",
            ),
        )
    ),
)
ENV_EXAMPLE = REPOSITORY / ".env.example"

BEGIN = ".. settings: made by python -m tests.docs.settings_files\n"
END = ".. settings: end\n"

ENV_HEAD = """\
# Every setting of light-run, commented out at its default; an empty value is the default, too.
# Read by `docker compose` and systemd (EnvironmentFile=), or by a shell: set -a; . ./.env; set +a
# Sizes take k, m, g and t; times take ms, s, m, h and d. Options of `light-run serve` come first.
"""

_UNITS = {
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB")),
    "memory": ((1 << 30, "GiB"), (1 << 20, "MiB")),
    "seconds": ((86_400, "d"), (3600, "h")),
    "ms": ((3_600_000, "h"), (60_000, "min")),
}


def is_value(variable: Variable) -> bool:
    """True where the default is a value that could be written in the environment, and no description."""
    return re.fullmatch(r"[\w./~-]+", variable.default) is not None and variable.default not in (
        "none",
        "all",
    )


def settings_table() -> str:
    """The table of settings, between its markers."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for variable in table():
        option = f"``{variable.option}``" if variable.option else ""
        writer.writerow([f"``{variable.name}``", option, _default(variable), _markup(variable.help)])
    body = "".join(f"   {line}\n" for line in rows.getvalue().splitlines())
    head = (
        '.. csv-table::\n   :name: settings-table\n   :header: "Variable", "Option", "Default", "Meaning"\n\n'
    )
    return f"{BEGIN}\n{head}{body}\n{END}"


def env_example() -> str:
    """The whole of `.env.example`."""
    parts = [ENV_HEAD]
    for variable in table():
        value = variable.default if is_value(variable) else ""
        words = variable.help if value else f"{variable.help} ({variable.default})"
        parts.append(f"\n# {words}\n#{variable.name}={value}\n")
    return "".join(parts)


def with_table(page: str) -> str:
    """`page` with the table of settings as it should be."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise LookupError(f"the page has no table between {BEGIN!r} and {END!r}")
    return before + settings_table() + after


def main() -> None:
    """Write both files."""
    SETTINGS.write_text(with_table(SETTINGS.read_text()))
    ENV_EXAMPLE.write_text(env_example())


def _default(variable: Variable) -> str:
    if not is_value(variable):
        return _markup(variable.default)
    return f"``{variable.default}``{_in_words(variable)}"


def _in_words(variable: Variable) -> str:
    # 10485760 is easier to read as 10 MiB, 604800 as 7 d.
    words = re.findall(r"\w+", variable.help)
    for factor, unit in (pair for word in words for pair in _UNITS.get(word, ())):
        if variable.default.isdigit() and int(variable.default) >= factor:
            number, rest = divmod(int(variable.default), factor)
            if not rest:
                return f" ({number} {unit})"
    return ""


def _markup(text: str) -> str:
    # Patterns such as team-* and names such as `extract` as reStructuredText has them.
    words = (f"``{word}``" if "*" in word else word for word in text.replace("`", "``").split(" "))
    return " ".join(words)


if __name__ == "__main__":
    main()

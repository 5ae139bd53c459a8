"""How Sphinx makes the documentation: ``make docs``, then open build/docs/index.html.

What the pages show is executed by the suite, in tests/docs.
"""

from light_run.version import __version__

project = "light-run"
author = "light-run contributors"
release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx_click"]
html_theme = "furo"
html_title = f"light-run {release}"
html_show_copyright = False
# Two dashes are two dashes: the examples are for a terminal.
smartquotes = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# A name that is nowhere described is a mistake of the text.
nitpicky = False
# Sections that other pages name, from whichever folder.
_PAGES = {
    "Settings": "reference/settings",
    "Console": "guides/console",
    "Tokens": "guides/tokens",
    "How it works": "explanation/how-it-works",
    "Security": "explanation/security",
    "Deploying": "guides/deploying",
    "Monitoring": "guides/monitoring",
    "Maintenance": "guides/maintenance",
    "Endpoints": "reference/endpoints",
    "Artifacts": "guides/artifacts",
    "Uploading files": "guides/files",
}
rst_epilog = "\n".join(f".. _{title}: ../{page}.html" for title, page in _PAGES.items())

"""How Sphinx makes the documentation: ``make docs``, then open build/docs/index.html.

What the README shows and the suite executes is included from there, so that nothing is said twice.
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
# Sections of the README that its other sections name.
rst_epilog = """
.. _Settings: configuration.html#settings
.. _Tokens: configuration.html#tokens
.. _How it works: deployment.html#how-it-works
.. _Security: security.html
.. _Deploying: deployment.html#deploying
.. _Monitoring: deployment.html#monitoring
.. _Endpoints: http-api.html#endpoints
"""

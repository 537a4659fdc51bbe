"""Sphinx settings. Build with `make docs`; warnings are errors there."""

project = "edgepact"
extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist"]
# Pages that are parts of others.
exclude_patterns = ["_build", "how-to/small-devices-measured.md"]
html_theme = "alabaster"
html_theme_options = {"description": "Split a model, price the work, pay for it."}
# Links into the repository, such as to examples/, lead nowhere in the HTML.
suppress_warnings = ["myst.xref_missing"]

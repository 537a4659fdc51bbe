"""Sphinx settings. Build with `make docs`; warnings are errors there."""

project = "edgepact"
# myst_nb brings myst_parser, and runs the notebooks.
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "deflist"]
# Pages that are parts of others.
exclude_patterns = ["_build", "how-to/small-devices-measured.md"]
html_theme = "furo"
html_title = "edgepact"
# Links into the repository, such as to examples/, lead nowhere in the HTML.
suppress_warnings = ["myst.xref_missing"]

"""Sphinx settings. Build with `make docs`; warnings are errors there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "edgepact"
language = "en"
# myst_nb brings myst_parser, and runs the notebooks.
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "sphinx_copybutton",
    "mathml",
    "repository",
]
myst_enable_extensions = ["dollarmath", "deflist"]
# Headings can be linked to as on a forge.
myst_heading_anchors = 4
# Pages that are parts of others, and what builds the pages.
exclude_patterns = ["_build", "extensions", "how-to/small-devices-measured.md"]
html_theme = "furo"
html_title = "edgepact"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
# A page shows no copy of its source, and says nothing of who made the site.
html_copy_source = False
html_show_sphinx = False

# The Python reference, from docstrings in Google's form; `name` between single backticks is code.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"exclude-members": "Array"}  # a name for what others made
default_role = "py:obj"
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
toc_object_entries = False

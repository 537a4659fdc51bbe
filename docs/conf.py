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
    "headings",
    "mathml",
    "repository",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
# Headings can be linked to as on a forge.
myst_heading_anchors = 4
# Pages that are parts of others, and what builds the pages.
exclude_patterns = [
    "_build",
    ".notebooks-run",
    "extensions",
    "templates",
    "how-to/small-devices-measured.md",
]
templates_path = ["templates"]
# Notebooks are run once, and again when their text changes; a clean clone has nothing kept. Whoever
# changes what they show removes the folder.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / ".notebooks-run")
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell; JAX compiles
# What compilers say of a busy machine; an error still fails the build.
nb_output_stderr = "remove"
html_theme = "furo"
html_title = "edgepact"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["reading.js"]
html_favicon = "../src/edgepact/market/page/static/icon.svg"
# The colours of the live page.
html_theme_options = {
    "light_css_variables": {
        "color-background-primary": "#ffffff",
        "color-background-secondary": "#f4f6f8",
        "color-foreground-primary": "#1f2933",
        "color-foreground-secondary": "#3e4c59",
        "color-foreground-muted": "#52606d",
        "color-background-border": "#cbd2d9",
        "color-brand-primary": "#0b5c9e",
        "color-brand-content": "#0b5c9e",
        "color-brand-visited": "#3e4c8a",
        "color-api-name": "#b3243a",
        "color-api-pre-name": "#b3243a",
    },
    "dark_css_variables": {
        "color-background-primary": "#12181f",
        "color-background-secondary": "#1c252f",
        "color-foreground-primary": "#e8edf2",
        "color-foreground-secondary": "#c3ced9",
        "color-foreground-muted": "#a9b6c3",
        "color-background-border": "#3b4856",
        "color-brand-primary": "#7cc4ff",
        "color-brand-content": "#7cc4ff",
        "color-brand-visited": "#a5b4fc",
        "color-api-name": "#ff8a9a",
        "color-api-pre-name": "#ff8a9a",
    },
}
html_math_renderer = "mathml"
# A page shows no copy of its source, and says nothing of who made the site.
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

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
toc_object_entries = False  # modules are what a page is looked through by

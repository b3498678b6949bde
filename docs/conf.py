"""How Sphinx builds the site: `make docs`.

The source folder is the checkout, so README.md and its neighbours are pages as they stand, and links between files are
the same on a forge and in the site.
"""

import importlib.metadata

project = "onnxplain"
author = "The onnxplain developers"
copyright = f"2026, {author}"
release = importlib.metadata.version("onnxplain")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**"]
exclude_patterns = [".*", "artifacts", "build", "docs/gallery", "node_modules", "tests"]
highlight_language = "text"  # of blocks that name none, which hold commands
default_role = "code"  # docstrings write names in single backticks

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links to headings as a forge has them

nb_execution_mode = "force"  # the notebook is kept without outputs: they are those of this version
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autoclass_content = "both"  # a class and its __init__
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes that are in the table of a docstring are not listed once more

html_theme = "furo"
html_title = f"onnxplain {release}"
html_extra_path = ["start"]  # an index.html at the top that leads to the front page
html_copy_source = False
html_show_sphinx = False


def _not_a_type(app, what, name, obj, options, lines):
    """A colon in the first line of a property's docstring is a colon; napoleon takes what is before it for a type."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment, of which nothing is seen


def setup(app):
    """Connect what is above, before napoleon."""
    app.connect("autodoc-process-docstring", _not_a_type, priority=400)

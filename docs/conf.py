"""How Sphinx builds the documentation; CONTRIBUTING.md has the command."""

import os
import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

# sphinx-gallery looks for the base classes of our halving searches there.
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

import optomatic

#: The private server of the examples that are run has its data here.
STORE = Path(__file__).parents[1] / "build" / "store"

project = "optomatic"
copyright = "the optomatic developers"
version = release = optomatic.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_static", "_templates"]
templates_path = ["_templates"]
nitpicky = True  # a name in a docstring that has no page is an error
# There are no inventories of other projects: the build needs no network.
nitpick_ignore_regex = [("py:.*", r"(_pickle|copy|joblib|numpy|optuna|pandas|scipy|sklearn)\b.*")]
highlight_language = "text"  # blocks without a language are output

myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline", "colon_fence"]

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings have the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of classes lists them
numpydoc_class_members_toctree = False
# Sections have known names and stand in order; params have types and descriptions.
numpydoc_validation_checks = {"GL06", "GL07", "GL10", "PR05", "PR06", "PR07", "SS01"}

copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = "$ "

html_math_renderer = "mathml"  # browsers draw it without a script from elsewhere
html_theme = "pydata_sphinx_theme"
html_title = "optomatic"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the browser asks
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"**": ["all_pages"]}
html_theme_options = {
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

#: Examples that are shown and not run, with the reason.
NOT_RUN = {
    "digits_forest": "it waits for standalone workers",
    "driver": "it writes a search definition file into the current folder",
    "gallery": "it writes the pictures of these pages",
    "joblib_calls": "it starts a standalone worker",
    "search_on_dask": "it starts a dask cluster",
}
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": rf"/(?!({'|'.join(NOT_RUN)})\.py$)\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
}


def leave_out_deploy(app, config):
    """Make no gallery of examples/deploy, though it has a README.md."""
    config.sphinx_gallery_conf["source_suffix"] = {".rst": "restructuredtext"}


def with_new_store(app):
    """Begin with an empty database, so that examples score."""
    if app.config.sphinx_gallery_conf["plot_gallery"]:
        shutil.rmtree(STORE, ignore_errors=True)
    os.environ.pop("OPTOMATIC_DB", None)
    os.environ.update(OPTOMATIC_HOME=str(STORE), OPTOMATIC_IDLE_SECONDS="5")


def with_both_pictures(app, docname, source):
    """Show the picture of the theme that is chosen on the page, not that of the browser."""
    source[0] = re.sub(
        r'<picture>\s*<source [^>]*srcset="([^"]+)">'
        r'\s*<img alt="([^"]+)" src="([^"]+)">\s*</picture>',
        r"![\2](\3){.only-light}\n![\2](\1){.only-dark}",
        source[0],
    )


def with_links_out(app, docname, source):
    """Lead links to examples to their pages, and links to other files out of docs to a copy."""
    if docname.count("/") == 0:
        source[0] = re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](auto_examples/\1.rst)", source[0])
        source[0] = re.sub(r"\]\((\.\./[^)#]+)[^)]*\)", r"](path:\1)", source[0])


def with_reason(app, docname, source):
    """Say on the page of an example why it is not run."""
    folder, _, name = docname.partition("/")
    if folder == "auto_examples" and name in NOT_RUN:
        note = f".. note:: This page shows no output, because {NOT_RUN[name]}.\n"
        source[0] = f"{note}\n{source[0]}"


def without_foreign_methods(app, what, name, obj, skip, options):
    """Leave out what scikit-learn or joblib define and document."""
    home = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    return True if home.partition(".")[0] in ("joblib", "sklearn") else None


def inline_math(translator, node):
    """Write a formula in a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def display_math(translator, node):
    """Write a formula in a line of its own."""
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    raise SkipNode


def setup(app):
    """Connect all of these."""
    app.connect("config-inited", leave_out_deploy, priority=900)
    app.connect("builder-inited", with_new_store, priority=450)
    app.connect("source-read", with_both_pictures)
    app.connect("source-read", with_links_out)
    app.connect("source-read", with_reason)
    app.connect("autodoc-skip-member", without_foreign_methods)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))

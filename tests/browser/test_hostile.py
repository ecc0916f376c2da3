"""Names of classes, layers and files that are markup stay text in a live notebook."""

from __future__ import annotations

import hostile
from pages import write_notebook


def test_names_are_text_and_never_markup(lab, lab_page, page, console, tmp_path):
    write_notebook(lab.root / "hostile.ipynb", hostile.SHOW)
    notebook = lab_page("hostile.ipynb").run_all()
    assert notebook.errors() == []
    hostile.assert_inert(page, tmp_path)
    assert console.errors() == []

"""Every notebook runs from top to bottom without a network, and is kept without its outputs; its exercises accept
their solutions, reject wrong answers with a hint, and say when they have no answer.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gradcam_widget.lessons import student_form

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

# The students' form differs by the cells that it lacks; what the others do without them is told by the answers
# that are taken back below, in every notebook. These two are run as the students get them, too.
STUDENTS = ("02_what_is_alpha.ipynb", "01_quickstart.ipynb")

# in a process of its own: it needs an event loop, and the environment below before anything is imported
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
place = {"metadata": {"path": sys.argv[2]}}
NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
nbformat.write(notebook, sys.argv[3])
"""


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def names(source: str, kind: type[ast.expr_context]) -> set[str]:
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, kind)
    }


def exercises(notebook) -> list[tuple[str, nbformat.NotebookNode]]:
    """The name that each exercise asks for, and the cell that checks it."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    asked = [cell for cell in code if tagged(cell, "exercise")]
    checks = [cell for cell in code if tagged(cell, "check")]
    assert len(asked) == len(checks) >= 1
    found = []
    for question, checked in zip(asked, checks, strict=True):
        (name,) = names(question.source, ast.Store)
        found.append((name, checked))
    return found


def hint_of(source: str) -> str:
    """The hint that a check gives, which is written out in its cell."""
    (hint,) = [
        word.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "hint"
    ]
    assert hint
    return hint


def verdict(cell) -> str:
    (output,) = [output for output in cell.outputs if output.output_type == "execute_result"]
    return output.data["text/plain"]


def with_other_answers(notebook):
    """The notebook, and behind its last cell every check once more: with each wrong answer, and with none."""
    cells = list(notebook.cells)
    for name, checked in exercises(notebook):
        assert checked.metadata.wrong
        for answer in [*checked.metadata.wrong, "..."]:
            kept = f"_kept = {name}"  # wrong answers may be said in terms of the right one
            source = f"{kept}\n{name} = {answer}\n{checked.source}"
            cell = nbformat.v4.new_code_cell(source, metadata={"answer": answer, "hint": hint_of(checked.source)})
            cells += [cell, nbformat.v4.new_code_cell(f"{name} = _kept")]
    return nbformat.from_dict({**notebook, "cells": cells})


@pytest.fixture
def isolated(tmp_path) -> dict[str, str]:
    """An environment in which python3 is this Python, nothing of the user's is read, and nothing is online."""
    kernel = tmp_path / "data" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": arguments, "display_name": "Python 3 (ipykernel)", "language": "python"})
    )
    nowhere = "http://127.0.0.1:9"  # the port that discards
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTEST"))}
    return {
        **environment,
        "HOME": str(tmp_path),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TORCH_HOME": str(tmp_path / "torch"),
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }


def test_there_are_notebooks():
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.fixture
def execute(isolated, tmp_path):
    """A notebook -> the same, executed."""

    def run(notebook):
        nbformat.write(notebook, tmp_path / "given.ipynb")
        work = tmp_path / "work"
        work.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", RUN, *map(str, (tmp_path / "given.ipynb", work, tmp_path / "executed.ipynb"))],
            env=isolated,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return nbformat.read(tmp_path / "executed.ipynb", as_version=4)

    return run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs_and_its_exercises_judge_their_answers(path, execute):
    executed = execute(with_other_answers(nbformat.read(path, as_version=4)))
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    widgets = [
        output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    ]
    assert widgets
    for cell in executed.cells:
        if tagged(cell, "check"):
            assert ": right." in verdict(cell)
        answer = cell.metadata.get("answer")
        if answer == "...":
            assert "is not answered yet" in verdict(cell)
        elif answer is not None:
            assert ": not yet." in verdict(cell), answer
            assert cell.metadata.hint in verdict(cell)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_students_form_runs_and_says_what_is_not_answered(name, execute):
    solved = json.loads(next(path for path in NOTEBOOKS if path.name == name).read_text(encoding="utf-8"))
    executed = execute(nbformat.from_dict(student_form(solved)))
    checks = [cell for cell in executed.cells if tagged(cell, "check")]
    assert checks
    for cell in checks:
        assert "is not answered yet" in verdict(cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_nothing_but_a_check_needs_a_solution(path):
    notebook = nbformat.read(path, as_version=4)
    asked = {name for name, _ in exercises(notebook)}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    before: set[str] = set()
    for cell in code:
        if not tagged(cell, "solution") and not tagged(cell, "exercise"):
            read = names(cell.source, ast.Load)
            assert tagged(cell, "check") or not read & asked, cell.id
            only_solved = {
                name
                for other in code
                if tagged(other, "solution")
                for name in names(other.source, ast.Store)
                if name not in asked
            }
            assert not read & only_solved - before - names(cell.source, ast.Store), cell.id
            before |= names(cell.source, ast.Store)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_is_kept_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_solutions_and_checks_are_folded_and_questions_are_open(path):
    notebook = nbformat.read(path, as_version=4)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == (tagged(cell, "solution") or tagged(cell, "check")), cell.id
        assert not folded or cell.source.startswith("# "), (
            f"{cell.id}: JupyterLab shows the first line all the same"
        )
        if cell.cell_type == "code" and tagged(cell, "exercise"):
            assert cell.source.rstrip().endswith("= ..."), cell.id

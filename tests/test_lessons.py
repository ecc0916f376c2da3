"""A lesson's answers are judged fairly and in words, and its notebook comes with or without the solutions."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pytest
import torch

from gradcam_widget import cli, lessons
from gradcam_widget.lessons import check


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" Espresso ", "espresso"),
        (3, 3),
        (3.0, 3),
        (torch.tensor(3), 3),
        (0.3331, 1 / 3),
        (1000.5, 1000.0),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (True, True),
        ([2, 1], {1, 2}),
        ((1, 2), [1, 2]),
        (["a", "b"], ("a", "b")),
        ([0.1, 0.2], torch.tensor([0.1, 0.2])),
        (torch.ones(2, requires_grad=True), np.ones(2)),
        ("abc", lambda answer: answer.startswith("a")),
    ],
)
def test_a_right_answer_is_right(answer, expected):
    verdict = check(2, answer, expected, hint="never told", because="It is so.")
    assert verdict.right is True
    assert str(verdict) == repr(verdict) == "Exercise 2: right. It is so."


def test_a_verdict_is_a_paragraph_in_a_notebook():
    verdict = check(1, 4, 3, hint="Is 4 < 3? <b>No</b>.")
    assert "Exercise 1: not yet. Is 4 &lt; 3? &lt;b&gt;No&lt;/b&gt;.</p>" in verdict._repr_html_()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("cup", "espresso"),
        (967, "espresso"),
        (None, "espresso"),
        (4, 3),
        (3.2, 3),
        ("3", 3),
        (True, 1),
        (1, True),
        (0.34, 1 / 3),
        ("0.333", 1 / 3),
        ([1, 3], {1, 2}),
        ("ab", {"a", "b"}),
        ([0.1, 0.3], torch.tensor([0.1, 0.2])),
        ([[0.1, 0.2]], torch.tensor([0.1, 0.2])),
        (["a", "c"], ("a", "b")),
        ("abc", lambda answer: answer.startswith("b")),
    ],
)
def test_a_wrong_answer_gets_the_hint(answer, expected):
    verdict = check("2b", answer, expected, hint="Look again.", because="never told")
    assert verdict.right is False
    assert verdict.text == "Exercise 2b: not yet. Look again."


@pytest.mark.parametrize("expected", [3, 0.5, "espresso", {1}, torch.ones(2), lambda answer: answer > 3])
def test_an_answer_that_cannot_be_used_is_wrong_and_said_to_be(expected):
    class Odd:
        def __float__(self):
            raise TypeError("no number")

        def __array__(self, *args, **kwargs):
            raise TypeError("no array")

    verdict = check(1, Odd(), expected, hint="Look again.")
    assert verdict.right is False
    assert verdict.text.startswith("Exercise 1: not yet. Look again.")


def test_what_an_answer_did_to_the_check_is_told():
    assert "TypeError" in check(1, "text", lambda answer: answer > 3, hint="Look again.").text


@pytest.mark.parametrize("expected", [3, "espresso", lambda answer: True])
def test_no_answer_is_no_wrong_answer(expected):
    verdict = check(1, ..., expected, hint="never told")
    assert verdict.right is None
    assert "not answered yet" in verdict.text
    assert "never told" not in verdict.text


def test_the_tolerance_is_absolute_or_relative():
    assert check(1, 0.0009, 0.0, hint="", tolerance=1e-3).right
    assert not check(1, 0.0011, 0.0, hint="", tolerance=1e-3).right
    assert check(1, 1009.0, 1000.0, hint="", tolerance=1e-2).right
    assert not check(1, 1011.0, 1000.0, hint="", tolerance=1e-2).right


def test_the_lessons_are_numbered_and_each_asks_a_question():
    found = lessons.all_lessons()
    assert [lesson.number for lesson in found] == list(range(1, len(found) + 1))
    assert len(found) >= 2
    for lesson in found:
        assert lesson.question.endswith("?")
        assert "#" not in lesson.title
        assert "*" not in lesson.question


def test_the_list_names_every_lesson(capsys):
    assert cli.main(["lesson", "list"]) == 0
    printed = capsys.readouterr().out
    for lesson in lessons.all_lessons():
        assert f"{lesson.number:2}  {lesson.title}\n    {lesson.question}\n" in printed


def test_a_copy_has_no_solutions_and_is_a_valid_notebook(tmp_path, capsys):
    assert cli.main(["lesson", "copy", "2", "--folder", str(tmp_path / "new")]) == 0
    (path,) = (tmp_path / "new").iterdir()
    assert capsys.readouterr().out == f"Copied to {path}\n"
    assert path.name == lessons.find_lesson(2).path.name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert "solution" not in tags
    assert {"exercise", "check"} <= set(tags)
    assert not any("wrong" in cell.metadata for cell in notebook.cells)


def test_with_solutions_it_is_the_whole_notebook_under_a_name_that_says_so(tmp_path):
    assert cli.main(["lesson", "copy", "2", "--solutions", "--folder", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    original = lessons.find_lesson(2).path
    assert path.name == f"{original.stem}_solutions.ipynb"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(original.read_text(encoding="utf-8"))


def test_without_a_folder_the_current_one_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lesson", "copy", "1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["01_quickstart.ipynb"]


def test_a_students_work_is_never_written_over(tmp_path, capsys):
    (tmp_path / "01_quickstart.ipynb").write_text("my answers")
    assert cli.main(["lesson", "copy", "1", "--folder", str(tmp_path)]) == 1
    assert (tmp_path / "01_quickstart.ipynb").read_text() == "my answers"
    error = capsys.readouterr().err
    assert "01_quickstart.ipynb is already there" in error
    assert "--folder" in error


@pytest.mark.parametrize("number", ["0", "99"])
def test_an_unknown_lesson_is_refused(number, tmp_path, capsys):
    assert cli.main(["lesson", "copy", number, "--folder", str(tmp_path)]) == 1
    assert f"there is no lesson {number}; they have the numbers from 1 to" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_lesson_that_is_no_number_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["lesson", "copy", "two"])
    error = capsys.readouterr().err
    assert "argument N: expected a lesson's number; got 'two'. `gradcam-widget lesson list` shows them" in error


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["lesson", "copy", "1", "--folder", str(tmp_path / "file" / "below")]) == 1
    assert "choose another folder with --folder" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["lesson", "copy", "1", "--folder", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert error.endswith("file (it is a file); choose another folder with --folder\n")
    assert (tmp_path / "file").read_text() == ""


def test_missing_notebooks_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "gradcam_widget" / "lessons.py"))
    assert cli.main(["lesson", "copy", "1", "--folder", str(tmp_path)]) == 1
    assert "the notebooks are missing" in capsys.readouterr().err


def test_a_notebook_without_a_question_is_no_lesson(tmp_path, monkeypatch):
    folder = tmp_path / "gradcam_widget" / "notebooks"
    folder.mkdir(parents=True)
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# 1. Title"]}]}
    (folder / "01_it.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "gradcam_widget" / "lessons.py"))
    with pytest.raises(ValueError, match=r"01_it\.ipynb: a lesson begins with a heading and a question in bold"):
        lessons.all_lessons()

"""The lessons: the notebooks that teach, their forms with and without solutions, and the check of an answer.

A lesson's notebook is kept solved. Its cells are marked by tags: "exercise" for a question and for the cell in
which it is answered, "solution" for a cell that answers it, "check" for the one that tells whether that is right.
Importing this module loads nothing heavy.
"""

from __future__ import annotations

import errno
import html
import json
import math
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

__all__ = ["Lesson", "Verdict", "all_lessons", "check", "copy_lesson", "find_lesson", "student_form"]


@dataclass(frozen=True)
class Verdict:
    """What is said to an answer. In a notebook it shows as its text.

    Attributes:
        exercise: which one.
        right: whether the answer is right; None where there is none yet.
        text: the verdict in words, with the hint where the answer is wrong.
    """

    exercise: int | str
    right: bool | None
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """A paragraph, whose lines break between words, below the texts of the lesson."""
        return f'<p style="margin: 0 6px">{html.escape(self.text)}</p>'


def check(
    exercise: int | str,
    answer: object,
    expected: object | Callable[[Any], object],
    *,
    hint: str,
    because: str = "",
    tolerance: float = 1e-3,
) -> Verdict:
    """The verdict on the answer to an exercise.

    Args:
        exercise: its number or name, for the text.
        answer: what the student gives; ``...`` stands for no answer yet.
        expected: the right answer, or a function that says whether an answer is right. Text is compared without
            regard to case and outer blanks, a set without regard to order, integers and truth values exactly;
            other numbers, arrays and tensors to the tolerance, arrays also by their shape.
        hint: what to think of, for who was wrong.
        because: why the right answer is right.
        tolerance: by which a number may differ, absolute or relative, whichever allows more.
    """
    if answer is ...:
        return Verdict(
            exercise,
            None,
            f"Exercise {exercise} is not answered yet: put your answer in the place of the ... above.",
        )
    trouble = ""
    try:
        right = bool(expected(answer)) if callable(expected) else _agrees(answer, expected, tolerance)
    except Exception as error:  # an answer can be anything at all; what it did to the check is part of the verdict
        right, trouble = False, f" (The check cannot use this answer: {type(error).__name__}: {error})"
    if right:
        return Verdict(exercise, True, f"Exercise {exercise}: right. {because}".rstrip())
    return Verdict(exercise, False, f"Exercise {exercise}: not yet. {hint}{trouble}")


def _agrees(answer: Any, expected: Any, tolerance: float) -> bool:
    """Whether an answer equals what is expected, in the way that suits its kind."""
    answer = _plain(answer)
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().casefold() == expected.strip().casefold()
    if isinstance(expected, bool):
        return isinstance(answer, bool) and answer is expected
    if isinstance(expected, Set):
        return not isinstance(answer, str) and set(answer) == set(expected)
    if isinstance(expected, Integral):
        return not isinstance(answer, (bool, str)) and float(answer) == int(expected)
    if isinstance(expected, Real):
        return not isinstance(answer, (bool, str)) and math.isclose(
            float(answer), float(expected), rel_tol=tolerance, abs_tol=tolerance
        )
    return _close(answer, expected, tolerance)


def _close(answer: Any, expected: Any, tolerance: float) -> bool:
    """Whether two arrays or tensors, or lists of anything, are equal; numbers to the tolerance."""
    import numpy as np

    mine, theirs = np.asarray(answer), np.asarray(_plain(expected))
    if mine.shape != theirs.shape:
        return False
    if theirs.dtype.kind not in "fc":
        return bool((mine == theirs).all())
    return bool(np.allclose(mine, theirs, rtol=tolerance, atol=tolerance))


def _plain(value: Any) -> Any:
    """A tensor without its history and on the CPU; anything else as it is."""
    return value.detach().cpu() if hasattr(value, "detach") else value


@dataclass(frozen=True)
class Lesson:
    """One lesson.

    Attributes:
        number: counted from one.
        title: without the number.
        question: the one that it opens with.
        path: of its notebook, with the solutions.
    """

    number: int
    title: str
    question: str
    path: Path


def all_lessons() -> tuple[Lesson, ...]:
    """The lessons in their order."""
    return tuple(_lesson(path) for path in sorted(_folder().glob("[0-9][0-9]_*.ipynb")))


def find_lesson(number: int) -> Lesson:
    """The lesson with this number.

    Raises:
        ValueError: for a number that no lesson has.
    """
    lessons = {lesson.number: lesson for lesson in all_lessons()}
    if number not in lessons:
        raise ValueError(
            f"there is no lesson {number}; they have the numbers from {min(lessons)} to {max(lessons)}"
            if lessons
            else f"there is no lesson {number}, nor any other: the notebooks are missing in {_folder()}"
        )
    return lessons[number]


def copy_lesson(number: int, folder: str | Path = ".", *, solutions: bool = False) -> Path:
    """The path of a copy of a lesson: the students' form, whose exercises are open, or the solved one.

    Args:
        number: of the lesson.
        folder: where to put it; made where there is none.
        solutions: with the solutions; the name of the file says so.

    Raises:
        ValueError: for a number that no lesson has.
        NotADirectoryError: where the folder is a file.
        FileExistsError: if there is a file of that name already; it is never written over.
    """
    lesson = find_lesson(number)
    notebook = json.loads(lesson.path.read_text(encoding="utf-8"))
    name = f"{lesson.path.stem}_solutions.ipynb" if solutions else lesson.path.name
    folder = Path(folder)
    if folder.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook if solutions else student_form(notebook), indent=1, ensure_ascii=False)
    with (folder / name).open("x", encoding="utf-8") as file:
        file.write(text + "\n")
    return folder / name


def student_form(notebook: dict[str, Any]) -> dict[str, Any]:
    """A lesson's notebook, as parsed JSON, without its solutions: ``...`` stands where an answer is expected."""
    return {**notebook, "cells": [_open(cell) for cell in notebook["cells"] if "solution" not in _tags(cell)]}


def _open(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell without the wrong answers that the tests try."""
    return {**cell, "metadata": {key: value for key, value in cell["metadata"].items() if key != "wrong"}}


def _tags(cell: dict[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


def _lesson(path: Path) -> Lesson:
    """A lesson as its first cell describes it: the title, and the question in bold."""
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    title = re.search(r"^# (?:\d+\. )?(.+)$", text, re.MULTILINE)
    question = re.search(r"\*\*(.+?)\*\*", text, re.DOTALL)
    if title is None or question is None:
        raise ValueError(f"{path.name}: a lesson begins with a heading and a question in bold")
    plain = " ".join(question[1].replace("*", "").split())  # in a terminal, stars are no emphasis
    return Lesson(int(path.name[:2]), title[1], plain, path)


def _folder() -> Path:
    """Where the notebooks are: a checkout's own, else those installed with the package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else package) / "notebooks"

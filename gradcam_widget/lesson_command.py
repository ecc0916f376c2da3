"""The command ``gradcam-widget lesson``: lists the lessons, and copies one to work on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gradcam_widget.lessons import all_lessons, copy_lesson

__all__ = ["add_lesson_command"]


def add_lesson_command(commands: Any) -> None:
    """Add ``lesson`` to the subcommands of a parser; what is parsed has a function ``run``."""
    lesson = commands.add_parser(
        "lesson",
        help="list the lessons, or copy one to work on",
        description="Notebooks of a quarter of an hour each, with exercises that check their answers.",
    )
    actions = lesson.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the lessons and their questions")
    listing.set_defaults(run=_list)
    copy = actions.add_parser("copy", help="copy a lesson's notebook")
    copy.add_argument("number", type=_number, metavar="N", help="number of the lesson")
    copy.add_argument("--solutions", action="store_true", help="with the exercises solved")
    copy.add_argument("--folder", type=Path, default=Path(), help="where to put it (default: the current folder)")
    copy.set_defaults(run=_copy)


def _number(text: str) -> int:
    """The number of a lesson from the command line."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a lesson's number; got {text!r}. `gradcam-widget lesson list` shows them"
        ) from error


def _list(_: argparse.Namespace) -> int:
    for lesson in all_lessons():
        print(f"{lesson.number:2}  {lesson.title}\n    {lesson.question}")
    return 0


def _copy(options: argparse.Namespace) -> int:
    try:
        path = copy_lesson(options.number, options.folder, solutions=options.solutions)
    except FileExistsError as error:
        return _fail(f"{error.filename} is already there, and is kept; choose another folder with --folder")
    except OSError as error:
        reason = error.strerror or str(error)
        return _fail(
            f"the lesson cannot be copied to {options.folder} ({reason}); choose another folder with --folder"
        )
    except ValueError as error:
        return _fail(f"{error}; `gradcam-widget lesson list` shows them")
    print(f"Copied to {path}")
    return 0


def _fail(message: str) -> int:
    print(f"gradcam-widget: {message}", file=sys.stderr)
    return 1

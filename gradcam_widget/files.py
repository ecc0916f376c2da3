"""Files that are written: where they may go, and never a half of one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

__all__ = ["checked_path", "write_file"]


def checked_path(path: object, suffixes: Sequence[str]) -> Path:
    """Where a file goes.

    Args:
        path: as given.
        suffixes: what its name may end in, such as (".png", ".svg").

    Raises:
        TypeError: for what is no path. ValueError: for a name with another ending, or that of a folder.
        FileNotFoundError: where its folder does not exist.
    """
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path: expected the path of a file; got {type(path).__name__}")
    file = Path(path).expanduser()
    if file.suffix.lower() not in suffixes:
        known = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
        raise ValueError(f"path: expected a name that ends in {known}; got {file.name!r}")
    if file.is_dir():
        raise ValueError(f"path: {str(file)!r} is a folder; give the name of a file in it")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {str(file.parent)!r}; make it first")
    return file


def write_file(file: Path, content: bytes) -> None:
    """Write a file so that there is the old one or the whole new one, never a part."""
    half = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        half.write_bytes(content)
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)

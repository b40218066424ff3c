"""Loose pictures: files and folders named one by one, of unknown people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reidkit.errors import DatasetError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def find_images(paths: Sequence[str | Path]) -> list[str]:
    """List picture files: a file stands for itself, a folder for the pictures below it.

    Folders are walked in sorted order; what is not named like a picture, or begins with a dot, is
    left out there.

    Raises:
        DatasetError: a path does not exist, or a folder holds no pictures.
    """
    found: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [str(file) for file in sorted(path.rglob("*")) if _is_picture(file, path)]
            if not inside:
                raise DatasetError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(str(path))
        else:
            raise DatasetError(f"{path} does not exist")
    return found


def _is_picture(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()

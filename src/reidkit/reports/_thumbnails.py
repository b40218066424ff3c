"""Small pictures that live inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import PurePath

from PIL import Image

from reidkit import preprocess
from reidkit.errors import ImageError

WIDTH, HEIGHT = 64, 128
"""The largest size of a thumbnail, in pixels."""

QUALITY = 80


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture for a page: its file name, and its pixels as a `data:` URI.

    `uri` is `None` where the picture cannot be opened any more; `problem` then says why.
    """

    name: str
    uri: str | None
    problem: str = ""


def make_thumbnail(path: str) -> Thumbnail:
    """Read a picture and shrink it into 64 x 128 pixels; its proportions are kept.

    A picture that cannot be read gives a thumbnail without pixels: pictures move after their
    vectors were made, and a report of the vectors is still worth having.
    """
    name = PurePath(path).name or "(no file name)"
    try:
        image = Image.fromarray(preprocess.decode(path))
    except ImageError as error:
        return Thumbnail(name, None, error.reason)
    image.thumbnail((WIDTH, HEIGHT))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(name, "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())

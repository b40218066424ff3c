"""Evaluation protocols: which gallery pictures a query meets, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reidkit.errors import ArgumentError

Removed = Literal["person and camera", "camera", "nothing"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a query meets, and how often a gallery is drawn.

    `removed` says which gallery pictures a query never meets: those of its own person seen by
    its own camera, all of its own camera, or none. Junk (person id -1) is never met.

    `trials` above 0 is a single-shot protocol: in each trial one gallery picture of each person
    is drawn (for the query's own person one that it may meet), and the figures are means over
    the trials. Drawing starts from `seed`. Where `own_picture` is false, a query whose very
    picture (by path) was drawn is not asked in that trial.
    """

    name: str
    removed: Removed = "person and camera"
    trials: int = 0
    seed: int = 0
    own_picture: bool = True

    def __post_init__(self) -> None:
        if self.removed not in ("person and camera", "camera", "nothing"):
            raise ArgumentError(
                f"removed is {self.removed!r}, expected 'person and camera', 'camera' or 'nothing'"
            )
        if self.trials and self.removed == "camera":
            raise ArgumentError(
                "a single-shot protocol cannot remove whole cameras: the picture drawn of a "
                "person may be of any camera; use removed='person and camera'"
            )
        if self.trials < 0:
            raise ArgumentError(f"trials is {self.trials}, expected 0 (no drawing) or more")


MARKET1501 = Protocol("market1501")
"""Zheng et al., ICCV 2015; also that of DukeMTMC-reID, MSMT17 and VeRi-776."""

CUHK03 = Protocol("cuhk03")
"""The new split of CUHK03 (Zhong et al., CVPR 2017): scored as Market-1501 is."""

CUHK03_CLASSIC = Protocol("cuhk03-classic", trials=100)
"""Single-shot (Li et al., CVPR 2014): the mean over 100 seeded drawings of the gallery."""

VEHICLEID = Protocol("vehicleid", removed="nothing", trials=10, own_picture=False)
"""One gallery picture of each identity (Liu et al., CVPR 2016), drawn ten times; give the test
pictures on both sides."""

CROSS_CAMERA = Protocol("cross-camera", removed="camera")
"""A query meets no picture of its own camera, whoever is in it."""

ANY = Protocol("any", removed="nothing")
"""Nothing is removed: not even the query's own picture, if the gallery holds it."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (MARKET1501, CUHK03, CUHK03_CLASSIC, VEHICLEID, CROSS_CAMERA, ANY)
}

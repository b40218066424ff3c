"""Operating points: which score means the same person, and how often that is wrong.

`calibrate` compares pictures whose people are known, `calibrate_unlabelled` crops of own footage.
Both give `OperatingPoints`: thresholds at stated false-accept rates, with intervals for other
people. They hold for one model, one input contract and one metric, are kept beside `model.json`
in the model package, and are void as soon as it changes.
"""

from reidkit.operating._calibrating import RATES, calibrate
from reidkit.operating._files import (
    FILE,
    FORMAT,
    check_comparable,
    check_package,
    check_writable,
    points_as_json,
    read_operating_points,
    read_points,
    store_operating_points,
    write_points,
)
from reidkit.operating._points import (
    CONFIDENCE,
    Control,
    EqualError,
    IdentificationPoint,
    OperatingPoint,
    OperatingPoints,
    Population,
    Rate,
    Settings,
    Unsupported,
    Verdict,
    judge,
)
from reidkit.operating._sightings import Sightings, read_sightings
from reidkit.operating._unlabelled import calibrate_unlabelled

__all__ = [
    "CONFIDENCE",
    "FILE",
    "FORMAT",
    "RATES",
    "Control",
    "EqualError",
    "IdentificationPoint",
    "OperatingPoint",
    "OperatingPoints",
    "Population",
    "Rate",
    "Settings",
    "Sightings",
    "Unsupported",
    "Verdict",
    "calibrate",
    "calibrate_unlabelled",
    "check_comparable",
    "check_package",
    "check_writable",
    "judge",
    "points_as_json",
    "read_operating_points",
    "read_points",
    "read_sightings",
    "store_operating_points",
    "write_points",
]

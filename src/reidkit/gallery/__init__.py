"""The gallery: enrol, search, forget; bound to one model, durable, exact.

A `Gallery` is a store of crops with their vectors and the model package that made them. The
store is a folder with one SQLite database, or a PostgreSQL database with pgvector: a `Store` is
the seam, and one test holds both to it.
"""

from reidkit.gallery._answers import (
    MOST_CROPS,
    MOST_PEOPLE,
    Answer,
    Asking,
    CropMatch,
    PersonMatch,
)
from reidkit.gallery._enrolling import Enrolment, Refused, join_enrolments
from reidkit.gallery._gallery import Gallery, Stats, reembed_place
from reidkit.gallery._json import (
    answer_as_json,
    answer_from_json,
    audit_as_json,
    audit_from_json,
    crops_as_json,
    crops_from_json,
    enrolment_as_json,
    enrolment_from_json,
    person_as_json,
    person_from_json,
    stats_as_json,
    stats_from_json,
)
from reidkit.gallery._names import check_name, check_tags
from reidkit.gallery._people import Left, Naming, choose_people, make_crops, take_people
from reidkit.gallery._pictures import Picture, decode_picture, keep_picture, read_picture
from reidkit.gallery._quality import Quality, measure_sharpness
from reidkit.gallery._reembedding import Reembedded
from reidkit.gallery._stores import MEMORY, Store, create_store, is_postgres, open_store
from reidkit.gallery._thresholds import Thresholds, Verdict, find_thresholds
from reidkit.gallery._times import format_time, parse_period, parse_time
from reidkit.gallery._values import (
    EVERYTHING,
    AuditLine,
    Binding,
    Crops,
    Found,
    KeptPictures,
    Person,
    StoreFacts,
    Where,
    join_crops,
)

__all__ = [
    "EVERYTHING",
    "MEMORY",
    "MOST_CROPS",
    "MOST_PEOPLE",
    "Answer",
    "Asking",
    "AuditLine",
    "Binding",
    "CropMatch",
    "Crops",
    "Enrolment",
    "Found",
    "Gallery",
    "KeptPictures",
    "Left",
    "Naming",
    "Person",
    "PersonMatch",
    "Picture",
    "Quality",
    "Reembedded",
    "Refused",
    "Stats",
    "Store",
    "StoreFacts",
    "Thresholds",
    "Verdict",
    "Where",
    "answer_as_json",
    "answer_from_json",
    "audit_as_json",
    "audit_from_json",
    "check_name",
    "check_tags",
    "choose_people",
    "create_store",
    "crops_as_json",
    "crops_from_json",
    "decode_picture",
    "enrolment_as_json",
    "enrolment_from_json",
    "find_thresholds",
    "format_time",
    "is_postgres",
    "join_crops",
    "join_enrolments",
    "keep_picture",
    "make_crops",
    "measure_sharpness",
    "open_store",
    "parse_period",
    "parse_time",
    "person_as_json",
    "person_from_json",
    "read_picture",
    "reembed_place",
    "stats_as_json",
    "stats_from_json",
    "take_people",
]

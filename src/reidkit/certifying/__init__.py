"""Does the compiled file still find the right people? A certificate that a build can fail on."""

from __future__ import annotations

from reidkit.certifying._certificate import BATCHES as BATCHES
from reidkit.certifying._certificate import Agreement as Agreement
from reidkit.certifying._certificate import BatchCheck as BatchCheck
from reidkit.certifying._certificate import Certificate as Certificate
from reidkit.certifying._certificate import Check as Check
from reidkit.certifying._certificate import Divergence as Divergence
from reidkit.certifying._certificate import Evidence as Evidence
from reidkit.certifying._certificate import Gate as Gate
from reidkit.certifying._certificate import LayerError as LayerError
from reidkit.certifying._certificate import Limits as Limits
from reidkit.certifying._certificate import Side as Side
from reidkit.certifying._certificate import Watch as Watch
from reidkit.certifying._certify import certify as certify
from reidkit.certifying._certify import find_objection as find_objection
from reidkit.certifying._company import find_batch_divergence as find_batch_divergence
from reidkit.certifying._json import certificate_as_json as certificate_as_json
from reidkit.certifying._walking import find_divergence as find_divergence

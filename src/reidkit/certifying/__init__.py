"""Does the compiled file still find the right people? A certificate that a build can fail on."""

from __future__ import annotations

from reidkit.certifying._certificate import Agreement as Agreement
from reidkit.certifying._certificate import BatchCheck as BatchCheck
from reidkit.certifying._certificate import Certificate as Certificate
from reidkit.certifying._certificate import Divergence as Divergence
from reidkit.certifying._certificate import Evidence as Evidence
from reidkit.certifying._certificate import Gate as Gate
from reidkit.certifying._certificate import LayerError as LayerError
from reidkit.certifying._certificate import Limits as Limits
from reidkit.certifying._certificate import Side as Side

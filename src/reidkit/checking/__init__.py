"""Is a data set what it should be: complete, readable, without leaks, fit to be scored?

Data sets are copied, converted and unpacked in part; what goes wrong shows in no error and in every
number. The check reads each picture once and says what it found, what of it makes scores wrong,
and what is only worth knowing.
"""

from __future__ import annotations

from reidkit.checking._check import check_dataset as check_dataset
from reidkit.checking._values import DatasetCheck as DatasetCheck
from reidkit.checking._values import Duplicates as Duplicates
from reidkit.checking._values import Finding as Finding
from reidkit.checking._values import NearPair as NearPair
from reidkit.checking._values import Picture as Picture

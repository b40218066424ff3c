"""Whose preprocessing differs from a package's contract, in which knob, and what that costs.

The silent killer of deployed networks is input made in another way than in training: the other
colour order, a resize of another library, a mean that was subtracted twice. Given pictures and
what somebody's code made of them, every usual mistake is tried, alone and with others, until one
explains the arrays; then each wrong knob is put into the right pipeline by itself, and the
vectors say what it costs.
"""

from __future__ import annotations

from reidkit.diagnosing._crops import write_crops as write_crops
from reidkit.diagnosing._diagnose import diagnose as diagnose
from reidkit.diagnosing._diagnosis import Diagnosis as Diagnosis
from reidkit.diagnosing._diagnosis import Finding as Finding

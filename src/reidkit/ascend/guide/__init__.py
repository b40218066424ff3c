"""The whole guide in one call, streaming or with its files."""

from __future__ import annotations

from reidkit.ascend.guide._guide import follow_guide as follow_guide
from reidkit.ascend.guide._run import GuideSettings as GuideSettings
from reidkit.ascend.guide._tables import BatchRow as BatchRow
from reidkit.ascend.guide._tables import GuideResult as GuideResult
from reidkit.ascend.guide._tables import result_as_json as result_as_json
from reidkit.ascend.guide._tables import write_tables as write_tables

"""The guide's batch inference tool under its own name: `python -m reidkit.ais_bench ...`."""

from __future__ import annotations

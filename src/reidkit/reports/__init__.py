"""Reports for people: one HTML file that opens anywhere, offline, on screen and on paper.

A report holds its pictures, its plots and its style; it runs no script and asks nothing of the
network. The same values give the same bytes.
"""

from reidkit.reports._certificate import write_certificate_report
from reidkit.reports._dataset import write_dataset_report
from reidkit.reports._evaluation import write_report
from reidkit.reports._findings import Findings
from reidkit.reports._map import EmbeddingMap, project_embeddings
from reidkit.reports._ranked import SHOWN_MATCHES

__all__ = [
    "SHOWN_MATCHES",
    "EmbeddingMap",
    "Findings",
    "project_embeddings",
    "write_certificate_report",
    "write_dataset_report",
    "write_report",
]

"""Beyond one machine: embed, score and enrol on engines that exist, with the same contract.

An *embeddings data set* is an embeddings folder in parts, Parquet files that many processes can
write and that any tool for tables can read. `embed_parts` makes one on a Ray cluster.
"""

from reidkit.distributed._cluster import Cluster
from reidkit.distributed._data_set import DataSet, open_data_set
from reidkit.distributed._enrolling import EnrolledParts, Enrolling, enrol_parts
from reidkit.distributed._evaluating import evaluate_parts
from reidkit.distributed._places import Place, find_place, is_uri
from reidkit.distributed._plan import Job, choose_size, plan_job
from reidkit.distributed._reranking import evaluate_reranked
from reidkit.distributed._running import embed_parts
from reidkit.distributed._sides import CutEmbeddings, Parts, describe_side, is_data_set
from reidkit.distributed._sources import Source, cut_samples, find_source
from reidkit.distributed._tasks import HERE, Here, Tasks, open_tasks, ray_tasks

__all__ = [
    "HERE",
    "Cluster",
    "CutEmbeddings",
    "DataSet",
    "EnrolledParts",
    "Enrolling",
    "Here",
    "Job",
    "Parts",
    "Place",
    "Source",
    "Tasks",
    "choose_size",
    "cut_samples",
    "describe_side",
    "embed_parts",
    "enrol_parts",
    "evaluate_parts",
    "evaluate_reranked",
    "find_place",
    "find_source",
    "is_data_set",
    "is_uri",
    "open_data_set",
    "open_tasks",
    "plan_job",
    "ray_tasks",
]

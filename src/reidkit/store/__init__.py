"""The embeddings folder: vectors on disk that know which pictures and which model made them.

    manifest.json    hashes, counts, unreadable pictures; written last: it marks completeness
    vectors.npy      (N, D) float32, plain numpy format
    samples.csv      path, person_id, camera_id of each row

`write_embeddings` and `read_embeddings` are for whole values; `EmbeddingsWriter` fills a folder
batch by batch and goes on where a killed process stopped. Of a run that is cut into shards, each
has a folder of its own, whose manifest says which it is; `merge_embeddings` joins them.
"""

from reidkit.store._arrays import import_embeddings
from reidkit.store._folder import FORMAT, MANIFEST, read_embeddings, write_embeddings
from reidkit.store._merging import Merged, merge_embeddings
from reidkit.store._plan import DIFFERENCES, OTHER_PICTURES, Plan
from reidkit.store._shards import Shard
from reidkit.store._writer import EmbeddingsWriter

__all__ = [
    "DIFFERENCES",
    "FORMAT",
    "MANIFEST",
    "OTHER_PICTURES",
    "EmbeddingsWriter",
    "Merged",
    "Plan",
    "Shard",
    "import_embeddings",
    "merge_embeddings",
    "read_embeddings",
    "write_embeddings",
]

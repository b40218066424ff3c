"""The embeddings folder: vectors on disk that know which pictures and which model made them.

    manifest.json    hashes, counts, unreadable pictures; written last: it marks completeness
    vectors.npy      (N, D) float32, plain numpy format
    samples.csv      path, person_id, camera_id of each row

`write_embeddings` and `read_embeddings` are for whole values; `EmbeddingsWriter` fills a folder
batch by batch and goes on where a killed process stopped.
"""

from reidkit.store._arrays import import_embeddings
from reidkit.store._folder import FORMAT, MANIFEST, read_embeddings, write_embeddings
from reidkit.store._writer import EmbeddingsWriter, Plan

__all__ = [
    "FORMAT",
    "MANIFEST",
    "EmbeddingsWriter",
    "Plan",
    "import_embeddings",
    "read_embeddings",
    "write_embeddings",
]

"""One ingest on many machines: a Ray cluster runs the stages of `ingest_stages`. Nothing else here knows Ray.

The process that was started reads and hashes the source, owns the index, and deals parts of the documents to encoders:
processes of the cluster, each with its own copy of the model, which compare, chunk, embed and write them.
"""

from es_latechunk.scale.cluster import RayCluster
from es_latechunk.scale.load import ClusterLoad

__all__ = ["ClusterLoad", "RayCluster"]

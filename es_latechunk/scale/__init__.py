"""One ingest on many machines: a Ray cluster runs the stages of `ingest_stages`. Nothing else here knows Ray.

The process that was started lists the source, owns the index, and deals: parts of the source to readers, and what these
read to encoders. Both are processes of the cluster; an encoder has its own copy of the model, and compares, chunks,
embeds and writes.
"""

from es_latechunk.scale.cluster import RayCluster
from es_latechunk.scale.load import ClusterLoad

__all__ = ["ClusterLoad", "RayCluster"]

"""Search an index with kNN: an encoder for the query, and the plain Elasticsearch client for everything else.

python examples/knn_search.py "How many people live in Oslo?" --index notes
"""

import argparse

from elasticsearch import Elasticsearch

from es_latechunk import load_encoder

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("query")
parser.add_argument("--index", required=True)
parser.add_argument("--url", default="http://localhost:9200")
parser.add_argument("--model", help="the model of the index; default: all-MiniLM-L6-v2")
parser.add_argument("-k", type=int, default=3)
arguments = parser.parse_args()

encoder = load_encoder(arguments.model)
[vector] = encoder.encode_queries([arguments.query])

with Elasticsearch(arguments.url) as client:
    answer = client.search(
        index=arguments.index,
        knn={
            "field": "content_embedding",
            "query_vector": vector.tolist(),
            "k": arguments.k,
            "num_candidates": 100,
        },
        source=["doc_id", "content"],
    )

for hit in answer["hits"]["hits"]:
    print(f"{hit['_score']:.3f}  {hit['_source']['doc_id']}: {hit['_source']['content']}")

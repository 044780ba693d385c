"""Write a folder into an index, and print what became of each document.

python examples/ingest_folder.py notes/ --index notes
"""

import argparse
import sys

from es_latechunk import Index, connect, create_index, load_encoder, read_documents

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--index", required=True)
parser.add_argument("--url", help="default: ELASTICSEARCH_URL, else the running local node")
arguments = parser.parse_args()

client = connect(url=arguments.url)
encoder = load_encoder()
create_index(arguments.index, encoder=encoder, client=client)  # nothing happens if it exists

run = Index(arguments.index, client=client, encoder=encoder).start_ingest(read_documents([arguments.folder]))
for result in run:
    print(f"{result.doc_id}: {result.outcome}", result.error or "")
print(f"{run.report.chunks} chunks, {run.report.failed} documents failed")
sys.exit(1 if run.report.failed else 0)

"""Answer a question from an index: hybrid search with neighbours, a prompt, and any OpenAI-compatible chat server.

    python examples/hybrid_rag.py "How many people live in Oslo?" --index notes

This prints the prompt. With --chat-url http://localhost:11434/v1 --chat-model NAME, a chat server answers it.
"""

import argparse
import os

import httpx

from es_latechunk import connect, search

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("question")
parser.add_argument("--index", required=True)
parser.add_argument("--url", help="default: ELASTICSEARCH_URL, else the running local node")
parser.add_argument("--chat-url", help="address of the chat server up to /v1; its key: OPENAI_API_KEY")
parser.add_argument("--chat-model", default="default")
arguments = parser.parse_args()

hits = search(arguments.question, index=arguments.index, client=connect(url=arguments.url), k=3, neighbours=1)
sources = "\n\n".join(f"[{number}] {hit.doc_id}\n{hit.passage.text}" for number, hit in enumerate(hits, 1))
prompt = (
    f"Answer the question from the sources alone, and name the numbers of those that you used.\n\n"
    f"{sources}\n\nQuestion: {arguments.question}"
)

if not arguments.chat_url:
    print(prompt)
else:
    answer = httpx.post(
        f"{arguments.chat_url}/chat/completions",
        headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"},
        json={"model": arguments.chat_model, "messages": [{"role": "user", "content": prompt}]},
        timeout=120,
    )
    answer.raise_for_status()
    print(answer.json()["choices"][0]["message"]["content"])
    for number, hit in enumerate(hits, 1):
        print(f"[{number}] {hit.id}")

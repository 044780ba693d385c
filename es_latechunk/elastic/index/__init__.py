"""Everything about one index: its template and identity, its owner, and the documents that it holds."""

"""One reader per file format: from the bytes of a file to its documents."""

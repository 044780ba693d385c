"""What the commands print: JSON lines and messages, hits, progress, and the tables of `evaluate`."""

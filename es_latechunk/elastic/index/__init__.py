"""What an index is: its template and identity, who owns it, and what it holds of each document."""

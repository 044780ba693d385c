"""Options that several commands share, what completes them in a shell, and how the help of a command lists them."""

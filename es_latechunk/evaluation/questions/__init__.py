"""Questions: read from files or made from the text, and which chunks and documents answer them."""

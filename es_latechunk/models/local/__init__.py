"""A model on this machine: what its folder says, its tokenizer, and the engines that run it."""

"""The vectors of many chunkings and poolings from few passes through the model, and the cache that keeps them."""

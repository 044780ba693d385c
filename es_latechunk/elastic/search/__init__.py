"""From a query to hits: filters and requests, candidates, fusion, and the fields of the hits."""

"""From a query to hits: filters and requests, candidates, fusion, and the winners' fields."""

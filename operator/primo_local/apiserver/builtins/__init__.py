"""The kinds that are there from the start, one module a kind that has rules of its own."""

"""The families of random graphs, one a file. Each has `TYPES` (element types, one is drawn), `DIMS` (named sizes, each a pair
for the two runs of a symbolic graph) and `build(b)`, which adds nodes to the Builder until it is full."""

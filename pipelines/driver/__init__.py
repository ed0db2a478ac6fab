"""The driver's side of a run while it runs: the cluster, how it may be told to end, and what it says of itself."""

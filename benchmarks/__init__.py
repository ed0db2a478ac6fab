"""Speed, memory and fault figures: each module is one command, `python -m benchmarks.NAME`, that prints a table."""

"""What a run loses when it is killed, its store fails, its images are damaged, or it is repeated."""

"""What a run loses when it is killed, its store fails, its images are damaged, its nodes go away, or it is repeated."""

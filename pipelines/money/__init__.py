"""GPU time and what it costs: estimated before a run, counted in one, told after it."""

"""RIFE: frames between frames."""

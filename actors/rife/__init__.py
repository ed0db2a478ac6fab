"""RIFE: frames between frames.

Imports nothing here: `times` is wanted by workers that never interpolate, and torch takes seconds.
"""

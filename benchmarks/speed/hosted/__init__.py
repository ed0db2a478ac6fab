"""Pipelines of diffusers as they are, against the same ones held by `actors.hosting`.

models    checkpoints of the published sizes with random weights, made on the device; small ones for rehearsals
ways      how a clip is made: exact, compiled, by other attention, with features that steps share
clip      seconds of a clip and of its steps, of any pipeline
measure   the rows
"""

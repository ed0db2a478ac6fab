"""What surrounds every stage, in one place: tries, time limits, timing, failures, logs, and how items travel in Ray.

contract    which items a stage takes and gives; whether it kept to that
runner      one call of a stage, with all that surrounds it
profiling   what a few clips' kernels take
feed        work rows for the tasks of the first stage
packing     items as columns of Arrow, and back
actor       a stage as Ray calls it: in the actors of a pool, or in tasks
"""

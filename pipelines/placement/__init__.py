"""Who goes where: which actors and tasks of a run each node of the cluster gets, and how people are told. Without Ray.

nodes          what a cluster has
rooms          what is free on nodes while actors are put there
fitting        which GPUs hold which stage
placing        the decision, of `run` and of `plan --cluster`
showing        the decision in a table, and in a line
"""

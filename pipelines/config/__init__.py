"""The one configuration tree: what a run may be told, where each value came from, and what is wrong with it.

schema     the tree
sections   its sections that are the driver's own
loading    files and overrides -> the tree, or all mistakes at once
mistakes   what is wrong, where it came from, and the nearest valid name
showing    the tree as it is saved, without secrets
"""

from pipelines.config.loading import load_config, load_storage
from pipelines.config.schema import Config, settled
from pipelines.config.sections import ActorPool
from pipelines.config.showing import to_yaml

__all__ = ["ActorPool", "Config", "load_config", "load_storage", "settled", "to_yaml"]

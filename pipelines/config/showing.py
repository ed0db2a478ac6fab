"""The resolved configuration, as it is saved beside the dataset."""

import yaml

from actors.settings import hidden_in, masked_options
from pipelines.config.mistakes import PathTo
from pipelines.config.schema import Config

# What an interrupted run is recovered by, so these are saved as they are resolved.
_RESOLVED = ("generator", "model")


def to_yaml(config: Config) -> str:
    """The resolved configuration, as it is saved beside the dataset, without secrets.

    Values of `storage.options`, logins and signatures are `***`. What was looked up in the environment stands there as
    `${oc.env:NAME}`.
    """
    options = masked_options(config.storage.options)
    tree = hidden_in(config.model_dump(mode="json"))
    tree["storage"]["options"] = options
    for path, text in config.looked_up.items():
        if path[0] not in _RESOLVED and path[:2] != ("storage", "options"):
            _put(tree, path, text)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _put(tree: object, path: PathTo, text: str) -> None:
    """Set a leaf, where it is still there."""
    for name in path[:-1]:
        if not isinstance(tree, dict | list):
            return
        tree = tree[name]  # type: ignore[index] # a name of a mapping, a number of a list
    if isinstance(tree, dict | list):
        tree[path[-1]] = text  # type: ignore[index] # the same

"""The resolved configuration, as it is saved beside the dataset."""

from typing import Any

import yaml

from pipelines.config.schema import Config

def to_yaml(config: Config) -> str:
    """The resolved configuration, as it is saved beside the dataset: without the secrets in `storage.options`."""
    tree = config.model_dump(mode="json")
    tree["storage"]["options"] = _masked(tree["storage"]["options"])
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _masked(options: Any, name: str = "") -> Any:
    if isinstance(options, dict):
        return {key: _masked(value, key) for key, value in options.items()}
    return options if name in _OPEN_OPTIONS else "***"

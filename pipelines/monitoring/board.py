"""The queries of a Grafana board, and those of a file of alerts."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from actors.errors import ConfigError
from pipelines.monitoring.names import OUR_PREFIX, RAYS_PREFIX, names_in_prometheus

BOARD, ALERTS = "grafana.json", "alerts.yaml"

_OUR_NAME = re.compile(rf"\b{RAYS_PREFIX}{OUR_PREFIX}\w+")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"")
# What Grafana puts in the place of its variables: windows that hold several of Ray's reports, and all runs.
_INTERVALS = re.compile(r"\$\{?__(?:rate_)?interval\}?")
_VARIABLE = re.compile(r"\$\{?\w+(?::\w+)?\}?")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of PromQL, and where it stands.

    Attributes:
        lasts: of an alert: for how long its condition holds before it fires, such as 15m.
    """

    kind: Literal["panel", "alert"]
    title: str
    expression: str
    lasts: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The metrics of ours that it asks for."""
        return frozenset(_OUR_NAME.findall(_STRING.sub('""', self.expression)))


def read_queries(folder: str) -> list[Query]:
    """All queries of the board and of the alerts in a folder.

    Raises:
        ConfigError: a file is not there or not what it should be, or asks for a metric that this version has not.
    """
    queries: list[Query] = []
    for name, parse in ((BOARD, _of_board), (ALERTS, _of_alerts)):
        path = Path(folder) / name
        found = list(parse(path))
        if not found:
            raise ConfigError(f"{path} asks for nothing: take the one that came with this version of stillreel")
        for query in found:
            if unknown := sorted(query.names - names_in_prometheus()):
                raise ConfigError(
                    f"{path} asks for {unknown[0]} ({query.title}), which this version of stillreel does not have: "
                    "take the file that came with it"
                )
        queries += found
    return queries


def _of_board(path: Path) -> Iterator[Query]:
    board = _parsed(path, json.loads)
    panels = board.get("panels") if isinstance(board, dict) else None
    if not isinstance(panels, list):
        raise ConfigError(
            f"{path} is no board that this version can read, for want of a list of `panels`: export it from Grafana in "
            "the classic format, or take the one that came with this version"
        )
    for panel in _flattened(panels):
        for target in panel.get("targets") or []:
            if expression := target.get("expr"):
                yield Query("panel", str(panel.get("title", "?")), _filled(str(expression)))


def _flattened(panels: list[Any]) -> Iterator[dict[str, Any]]:
    """Panels, and those within rows that are folded."""
    for panel in panels:
        if isinstance(panel, dict):
            yield panel
            yield from _flattened(panel.get("panels") or [])


def _filled(expression: str) -> str:
    """A query of a board, its variables filled in: wide windows, all runs."""
    return _VARIABLE.sub(".*", _INTERVALS.sub("5m", expression.replace("$__range", "1h")))


def _of_alerts(path: Path) -> Iterator[Query]:
    tree = _parsed(path, yaml.safe_load)
    try:
        for group in tree["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield Query("alert", str(rule["alert"]), str(rule["expr"]), str(rule.get("for", "")))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no file of Prometheus rules, which has `groups` of `rules` with `alert` and `expr`: of a "
            "PrometheusRule of Kubernetes, give what stands in its `spec`"
        ) from error


def _parsed(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}): name the folder that holds it with --files"
        ) from error
    except (ValueError, yaml.YAMLError) as error:  # a UnicodeDecodeError is a ValueError
        said = " ".join(str(error).split())
        raise ConfigError(f"{path} is broken: {said}") from error

"""The Grafana board and the alerts: they ask for what a run publishes, for all of it, and read well."""

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.monitoring.board import read_queries
from pipelines.monitoring.names import METRICS
from tests.jobs import ROOT
from tests.prometheus import MONITORING, program

BOARD = json.loads((MONITORING / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]


def rules_of(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((MONITORING / name).read_text())["groups"] for rule in group["rules"]]


RULES = rules_of("alerts.yaml")
OF_KUBERNETES = rules_of("alerts_kubernetes.yaml")
TESTS = ROOT / "tests/monitoring"


def test_every_metric_is_on_the_board() -> None:
    """That those on the board and in the alerts are declared, `read_queries` checks."""
    asked_for = {name for query in read_queries(str(MONITORING)) if query.kind == "panel" for name in query.names}
    for metric in METRICS:
        assert asked_for & set(metric.names_in_prometheus), metric.name


def test_names_have_the_endings_of_prometheus() -> None:
    names = [name for metric in METRICS for name in metric.names_in_prometheus]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert not metric.name.endswith(("_total", "_bucket", "_count", "_sum", "_s")), metric.name
        assert set(metric.labels) <= {"ended", "stage", "reason", "state", "into", "currency"}, metric.name


def test_panels_do_not_overlap_and_stay_on_the_page() -> None:
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, panel["title"]
    for one, other in itertools.combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (one["title"], other["title"])
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_panels_have_units_and_say_what_to_do() -> None:
    for panel in PANELS:
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 60, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert 'run=~"$run"' in target["expr"], panel["title"]


def test_variables_are_the_source_of_data_and_the_run() -> None:
    assert BOARD["schemaVersion"] == 38  # Grafana 10; later ones convert it as they open it
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "run"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["run"]["definition"] == "label_values(ray_stillreel_rows_total, run)"
    assert variables["run"]["allValue"] == ".*"


def test_alerts_say_what_to_do() -> None:
    for rule in [*RULES, *OF_KUBERNETES]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        whose = "{{ $labels.run }}" if rule in RULES else "{{ $labels.namespace }}"
        assert whose in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 150, rule["alert"]


def test_rules_and_configuration_are_valid() -> None:
    for command in (["check", "rules", "alerts.yaml", "alerts_kubernetes.yaml"], ["check", "config", "prometheus.yml"]):
        done = subprocess.run(
            [program("promtool"), *command], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["alerts", "alerts_kubernetes"])
def test_every_alert_fires_where_it_should_and_nowhere_else(name: str) -> None:
    path = TESTS / f"{name}_test.yaml"
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(_shown_to_fire(path)) == {rule["alert"] for rule in rules_of(f"{name}.yaml")}


def _shown_to_fire(path: Path) -> Iterator[str]:
    for test in yaml.safe_load(path.read_text())["tests"]:
        for expected in test["promql_expr_test"]:
            for sample in expected.get("exp_samples", []):
                yield sample["labels"].partition('alertname="')[2].partition('"')[0]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_is_of_a_run(rule: dict[str, Any]) -> None:
    assert "by (run" in rule["expr"]

"""What panels of the board show of several runs at once: `promtool` asks their queries of made-up series."""

import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.monitoring.board import read_queries
from tests.prometheus import MONITORING, program

# By run: a is small and priced in dollars, b large and without a price, c priced in euros; d has ended, of which only
# counters are left.
SERIES = {
    'ray_stillreel_cost{run="a", currency="USD"}': 10,
    'ray_stillreel_cost{run="b", currency="no price set"}': 0,
    'ray_stillreel_cost{run="c", currency="EUR"}': 40,
    'ray_stillreel_rows_total{run="a", ended="made"}': 1000,
    'ray_stillreel_rows_total{run="b", ended="made"}': 9000,
    'ray_stillreel_rows_total{run="c", ended="made"}': 2000,
    'ray_stillreel_rows_total{run="d", ended="made"}': 5000,
    'ray_stillreel_gpu_seconds_total{run="a", state="held", stage="generate"}': 80,
    'ray_stillreel_gpu_seconds_total{run="a", state="held", stage="finish"}': 20,
    'ray_stillreel_gpu_seconds_total{run="a", state="work", stage="generate"}': 70,
    'ray_stillreel_gpu_seconds_total{run="b", state="held", stage="generate"}': 900,
    'ray_stillreel_gpu_seconds_total{run="d", state="held", stage="generate"}': 7000,
    'ray_stillreel_gpu_time_share{run="a", into="making"}': 1.0,
    'ray_stillreel_gpu_time_share{run="a", into="idling"}': 0.0,
    'ray_stillreel_gpu_time_share{run="b", into="making"}': 0.5,
    'ray_stillreel_gpu_time_share{run="b", into="idling"}': 0.5,
    'ray_stillreel_left_seconds{run="a"}': 120,
    'ray_stillreel_left_seconds{run="b"}': 36000,
    'ray_stillreel_lease_limit_seconds{run="a"}': 120,
    'ray_stillreel_lease_limit_seconds{run="b"}': 600,
}


def shown(title: str, which: int = 0) -> str:
    """The query of a panel."""
    queries = [query.expression for query in read_queries(str(MONITORING)) if query.title == title]
    assert queries, title
    return queries[which]


def check(folder: Path, expression: str, series: dict[str, str], expected: dict[str, float]) -> None:
    """That the query gives these values, by labels, after ten minutes."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "10m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([program("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("title", "which", "expected"),
    [
        ("Cost of 1,000 clips", 0, {'{currency="USD"}': 10, '{currency="EUR"}': 20, '{currency="no price set"}': 0}),
        ("What the GPU time went into", 0, {'{into="making"}': 0.55, '{into="idling"}': 0.45}),
        ("Time left", 0, {'{run="a"}': 120, '{run="b"}': 36000}),
        ("Age of the lease", 1, {'{run="a"}': 120, '{run="b"}': 600}),
    ],
)
def test_each_run_counts_for_what_it_is(tmp_path: Path, title: str, which: int, expected: dict[str, float]) -> None:
    check(tmp_path, shown(title, which), {name: f"{value}x10" for name, value in SERIES.items()}, expected)


def test_two_runs_of_one_currency_share_its_cost(tmp_path: Path) -> None:
    series = {
        'ray_stillreel_cost{run="a", currency="USD"}': "10x10",
        'ray_stillreel_cost{run="b", currency="USD"}': "80x10",
        'ray_stillreel_rows_total{run="a", ended="made"}': "1000x10",
        'ray_stillreel_rows_total{run="b", ended="made"}': "2000x10",
    }
    check(tmp_path, shown("Cost of 1,000 clips"), series, {'{currency="USD"}': 30})

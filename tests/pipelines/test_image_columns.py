"""Which column holds the images."""

from pathlib import Path

from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, make_plan


def planned(manifest: Path, *overrides: str) -> Plan:
    settings = [f"manifest={manifest}", f"output={manifest.parent}/out", "model.source=none", *overrides]
    config = load_config([], settings)
    layout = Layout(config.output)
    return make_plan(config, Storage(), read_holdings(layout, Storage()), ("rev", ""), run=layout.run("r"))

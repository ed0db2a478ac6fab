"""`plan --cluster`: who would go where. It reserves nothing and loads nothing."""

from rich.console import Console

from actors import scratch
from actors.errors import ConfigError
from pipelines.config import Config
from pipelines.driver.address import address_of
from pipelines.driver.cluster import check_machine, connected
from pipelines.driver.machine import this_machine
from pipelines.driver.report import print_estimate
from pipelines.money.estimate import estimated
from pipelines.placement.nodes import Node
from pipelines.placement.placing import place
from pipelines.placement.showing import print_placement
from pipelines.planning.planner import Plan


def show_cluster(config: Config, plan: Plan, console: Console) -> None:
    """Print the placement of a run on the configuration's cluster, and its time there; without one, on this machine.

    What `run` would refuse is a note here, because the cluster may be another one by then.

    Raises:
        ConfigError: there is no such cluster.
    """
    if address_of(config) is None:
        console.print("No cluster is named (ray.address, RAY_ADDRESS): this is what this machine has", highlight=False)
        nodes = [this_machine(config)]
    else:
        nodes = _nodes_of_cluster(config, console)
    if config.ray.autoscaling:
        console.print("ray.autoscaling: this is what the cluster has now; it may grow", highlight=False)
    try:
        check_machine(config)
        placement = place(config, nodes)
        print_placement(placement, console)
        estimate = estimated(plan, config, placement.pools, placement.held, placement.generating_on)
        print_estimate(estimate, console)
    except ConfigError as error:
        console.print(f"note: `run` would say: {error}", markup=False, highlight=False)


def _nodes_of_cluster(config: Config, console: Console) -> list[Node]:
    # As a driver that runs nothing. That a GPU is missing is for `place` to say.
    patient = config.model_copy(update={"ray": config.ray.model_copy(update={"autoscaling": True})})
    with scratch.folder() as folder, connected(patient, console, folder / "ray.log") as cluster:
        return cluster.nodes

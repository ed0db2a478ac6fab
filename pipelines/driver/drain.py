"""`stillreel drain`: tell Ray that a node goes away, and wait until no clip is under way there."""

import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.errors import ConfigError, RunError, first_line
from actors.secrets import hidden
from actors.tries.remote_ledger import NAMESPACE
from pipelines.driver import ray_private
from pipelines.driver.address import ADDRESS_VARIABLE, Address
from pipelines.driver.refusals import not_connected
from pipelines.driver.screen import standard_error_into
from pipelines.driver.tokens import token_refused

_LOOK_INTERVAL_S = 1.0
# Between two clips of a worker, and before the driver has heard of the notice, none may be under way.
_EMPTY_LOOKS = 4
# A ledger answers within a millisecond; one whose run is ending may not at all.
_LEDGER_ANSWERS_S = 5.0
# So long after the time is up nothing is waited for.
_LATE_S = 2.0
_HEAD = "node:__internal_head__"  # as Ray names it among a node's resources


def drain(address: str | None, node: str | None, deadline_s: float, console: Console) -> None:
    """Tell the cluster that a node goes away in `deadline_s`; wait until no clip is under way there, or till then.

    `address` of the cluster: None is that of RAY_ADDRESS, or of the Ray on this machine. `node`: its id, or how that
    begins; None is the one of this machine.

    Once Ray knows of it, nothing that goes wrong is an error: who takes the machine away is not to wait for that.

    Raises:
        ConfigError: no Ray here, no such cluster or node, or the head, with which the run would go.
        RunError: Ray does not listen.
    """
    ends_at = time.time() + deadline_s
    with _connected(_address(address)):
        chosen = _chosen(node)
        ends_at = min(ends_at, _announced(chosen, ends_at, console))
        with _ends_for_sure(ends_at):
            try:
                _wait(chosen, ends_at, console)
            except Exception as error:  # noqa: BLE001 - the cluster ends before the node does, say
                said = first_line(error) or type(error).__name__
                _say(console, f"The cluster does not answer any more ({hidden(said)}): what is finished is kept")


def _wait(node: str, ends_at: float, console: Console) -> None:
    """Until no clip is under way on the node, it has ended, or the time is up."""
    clips = _under_way(node)
    _say(
        console,
        f"Node {node[:8]} goes away in {max(0.0, ends_at - time.time()):.0f} s; {_clips(clips)} under way there",
    )
    empty_looks = 0
    while time.time() < ends_at and empty_looks < _EMPTY_LOOKS:
        if node not in _alive():
            _say(console, "The node has ended")
            return
        clips = _under_way(node)
        if clips is None:
            break
        empty_looks = 0 if clips else empty_looks + 1
        time.sleep(_LOOK_INTERVAL_S)
    late = f"The time is up: {_clips(clips)} under way, and made again elsewhere"
    _say(console, late if clips else "Nothing is under way there any more")


@contextmanager
def _ends_for_sure(ends_at: float) -> Iterator[None]:
    """End this process a moment after that time, whatever call of Ray does not come back."""
    timer = threading.Timer(max(0.0, ends_at - time.time()) + _LATE_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _clips(count: int | None) -> str:
    return "1 clip is" if count == 1 else f"{count or 'no'} clips are"


def _address(given: str | None) -> Address:
    if given:
        return Address(given, f"--address={given}")
    if variable := os.environ.get(ADDRESS_VARIABLE, "").strip():
        return Address(variable, f"{ADDRESS_VARIABLE}={variable}")
    return Address("auto", "--address=auto")


@contextmanager
def _connected(address: Address) -> Iterator[None]:
    """This process as a driver of the cluster, which finds the runs there by their ledgers."""
    address.check_reachable()
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        try:
            with standard_error_into(Path(os.devnull)):  # what Ray's C++ side says of each try
                ray.init(address=address.text, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL)
        except ConnectionError as error:
            if address.text == "auto" and not token_refused(error, address):
                raise ConfigError(
                    "no Ray runs on this machine: call this on a node of the cluster, or name the cluster by --address "
                    "and the node by --node"
                ) from error
            raise not_connected(error, address) from error
        except Exception as error:
            raise not_connected(error, address) from error
        try:
            yield
        finally:
            ray.shutdown()


def _alive() -> dict[str, dict[str, Any]]:
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _chosen(given: str | None) -> str:
    """The node's id."""
    import ray

    nodes, context = _alive(), ray.get_runtime_context()
    cluster = f"the cluster at {context.gcs_address}"  # on a machine with several it may be another than was meant
    if given is None:
        here = context.get_node_id()
        if here not in nodes:
            raise ConfigError("this machine's node of Ray has ended: there is nothing to tell, or name one by --node")
        host = nodes[here]["NodeManagerHostname"]
        found = [name for name, node in nodes.items() if node["NodeManagerHostname"] == host]
        where = f"this machine ({host}) has {len(found)} nodes of Ray in {cluster}"
    else:
        found = [name for name in nodes if name.startswith(given)]
        where = f"--node={given} means {len(found)} nodes of Ray in {cluster}"
    if not found:
        raise ConfigError(
            f"--node={given} is no node that lives in {cluster}: it has ended, or name its cluster by --address"
        )
    if len(found) > 1:
        raise ConfigError(f"{where} ({', '.join(name[:8] for name in found)}): choose one by --node")
    if _HEAD in nodes[found[0]]["Resources"]:
        raise ConfigError(
            f"node {found[0][:8]} is the cluster's head, and all that runs on it ends with that: stop the run instead"
        )
    return found[0]


def _announced(node: str, ends_at: float, console: Console) -> float:
    """Tell Ray that the node goes away, unless it knows; when it does, as `time.time` has it.

    Raises RunError where Ray does not listen.
    """
    going = ray_private.nodes_going_away()
    if node in going:  # a cloud's own watcher, or the autoscaler, was first
        _say(console, f"Node {node[:8]} goes away already: somebody has said so before")
        return going[node]
    refusal = ray_private.give_notice(node, ends_at)
    if refusal is None:
        raise RunError("this version of Ray cannot be told that a node goes away: end the node without it")
    if refusal:
        raise RunError(f"Ray does not let node {node[:8]} go: {refusal}")
    return ends_at


def _under_way(node: str) -> int | None:
    """The clips of all runs that the node has; None where no run is on the cluster.

    Of a run whose ledger does not answer in time, at least one may be there.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util import list_named_actors

    counts = []
    for name in list_named_actors():
        try:
            counts.append(ray.get(ray.get_actor(name).under_way.remote(node), timeout=_LEDGER_ANSWERS_S))
        except GetTimeoutError:
            counts.append(1)
        except (RayError, ValueError):  # its run has ended
            continue
    return sum(counts) if counts else None

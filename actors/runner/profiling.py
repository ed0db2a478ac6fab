"""A profile of a few clips: where PyTorch's time goes, kernel by kernel (`run.profile`).

One actor of a run keeps it, whichever asks first. Each clip has a trace of its own, so that what is there is whole
whenever the run ends. In an actor's first clip memory is allocated and kernels are chosen: its trace has number 0, and
the table is of the others, as soon as there are any. A stage knows nothing of it, and nothing of it fails a clip.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors import logs, scratch
from actors.errors import first_line
from actors.storage import Storage
from actors.tries.ledger import Ledger

if TYPE_CHECKING:
    from torch.profiler import profile as TorchProfile

_TOP = 30
# Templates of CUTLASS have names of a page.
_NAME_LENGTH = 120
_CLAIM = "profile"


@dataclass(frozen=True, slots=True)
class Profiling:
    """What is asked for.

    Attributes:
        clips: so many of one actor, after its first one.
        place: the URI of a file of that name in the run's folder.
    """

    clips: int
    place: Callable[[str], str]
    storage: Storage


@dataclass(slots=True)
class Kernels:
    """Time and calls of each kernel, over some clips; on a CPU, of each operator.

    Attributes:
        device: e.g. "NVIDIA H200", or "cpu".
        wall_s: of the clips, with what the profiler itself takes.
    """

    device: str
    clips: int = 0
    wall_s: float = 0.0
    us: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, profile: "TorchProfile", wall_s: float) -> None:
        """Those of one more clip."""
        self.clips, self.wall_s = self.clips + 1, self.wall_s + wall_s
        is_gpu = self.device != "cpu"
        for event in profile.key_averages():
            if is_gpu and event.device_type.name == "CPU":  # which waits for the kernels that it launched
                continue
            us = event.self_device_time_total if is_gpu else event.self_cpu_time_total
            if us > 0 and not event.is_user_annotation:
                self.us[event.key] += us
                self.calls[event.key] += event.count

    def table(self) -> str:
        """The top ones, as text."""
        total = max(self.us.total(), 1.0)
        wall_ms, busy = self.wall_s * 1e3 / self.clips, total / 1e6 / max(self.wall_s, 1e-9)
        kind = "operators" if self.device == "cpu" else "kernels"
        clips = f"{self.clips} clip{'s' * (self.clips != 1)} on {self.device}: {wall_ms:,.1f} ms a clip"
        shown = f"the {min(_TOP, len(self.us))} of {len(self.us)} that took most"
        lines = [f"{clips}, {busy:.0%} of it in {kind}; {shown}", ""]
        lines += [f"{'share':>7}{'ms a clip':>12}{'calls a clip':>14}  name"]
        for name, us in self.us.most_common(_TOP):
            calls = self.calls[name] / self.clips
            lines.append(f"{us / total:7.1%}{us / 1e3 / self.clips:12.2f}{calls:14,.0f}  {name[:_NAME_LENGTH]}")
        return "\n".join([*lines, ""])


class Profiler:
    """Around the calls of one actor's stage."""

    def __init__(self, wanted: Profiling, ledger: Ledger) -> None:
        self._wanted, self._ledger = wanted, ledger
        self._remaining: int | None = None  # clips; None: nobody was asked yet
        self._number = 0  # of the next trace
        self._kernels: Kernels | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around the call for one clip; kept is one that ends well."""
        profile, started = self._begun(), time.perf_counter()
        ended_well = False
        try:
            yield
            ended_well = True
        finally:
            if profile is not None:
                self._end(profile, time.perf_counter() - started if ended_well else None)

    def _begun(self) -> "TorchProfile | None":
        try:
            if self._remaining is None:
                self._remaining = self._wanted.clips + 1 if self._ledger.claim(_CLAIM) else 0
            return self._started() if self._remaining else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the clip is made
            self._give_up(error)
            return None

    def _started(self) -> "TorchProfile | None":
        if "torch" not in sys.modules:
            self._remaining = 0
            logs.logger.warning("run.profile: this generator uses no PyTorch, so there is nothing to profile")
            return None
        import torch
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        if self._kernels is None or self._number == 1:
            self._kernels = Kernels(torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
        begun = profile(activities=activities)
        begun.start()
        return begun

    def _end(self, profile: "TorchProfile", wall_s: float | None) -> None:
        """Stop, and where the clip was made, keep what was seen."""
        try:
            profile.stop()
            if wall_s is None:
                return
            assert self._remaining, "begun while clips remain"
            assert self._kernels is not None, "begun with them"
            self._kernels.add(profile, wall_s)
            self._keep(profile, self._kernels)
            self._remaining, self._number = self._remaining - 1, self._number + 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the clip is made
            self._give_up(error)

    def _keep(self, profile: "TorchProfile", kernels: Kernels) -> None:
        wanted, name = self._wanted, f"trace-{self._number}.json.gz"
        with scratch.folder() as folder:
            profile.export_chrome_trace(str(folder / name))
            wanted.storage.put_file(wanted.place(name), folder / name)
        wanted.storage.put_bytes(wanted.place("kernels.txt"), kernels.table().encode())

    def _give_up(self, error: Exception) -> None:
        self._remaining = 0
        said = f"{type(error).__name__}: {first_line(error)}"
        logs.logger.warning("run.profile: the profile ends here, the clips go on (%s)", said)

"""A run against a real S3 server behind a proxy that refuses, resets and stalls a share of the requests."""

from dataclasses import dataclass, field
from pathlib import Path

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import Audit, audit
from tests.faulty_proxy import faulty_proxy
from tests.servers import swift

SHARE_OF_EACH_FAULT = 0.05
STALL_S = 2.0
# Enough tries that a request which fails 10 % of the time does not end a clip once in a million.
_ATTEMPTS = 6


@dataclass(slots=True)
class StoreResult:
    """What the run made of it."""

    dataset: Audit
    wanted: int
    exit_code: int
    requests: dict[str, int] = field(default_factory=dict)  # by what the proxy did to them

    @property
    def faults(self) -> int:
        """What has to be none."""
        found = self.dataset
        return found.lost(self.wanted) + found.duplicated + found.mismatched + len(found.failures) + self.exit_code


def trial(folder: Path, models: jobs.Models | jobs.NoModels, clips: int, seed: int, *arguments: str) -> StoreResult:
    """Make `clips` clips from and to the faulty store, by a run with these `arguments`."""
    folder.mkdir()
    jobs.write_pictures(folder / "images", clips)
    (folder / "swift").mkdir()
    with swift(folder / "swift") as server:
        direct = Storage({"s3": server.options()})
        direct.filesystem("s3://").mkdir("trial")
        for picture in sorted((folder / "images").iterdir()):
            direct.put_file(f"s3://trial/images/{picture.name}", picture)
        direct.put_bytes(
            "s3://trial/list.txt", "".join(f"images/{number:05d}.png\n" for number in range(clips)).encode()
        )
        share = SHARE_OF_EACH_FAULT
        with faulty_proxy(
            server.endpoint, share_503=share, share_reset=share, share_stall=share, stall_s=STALL_S, seed=seed
        ) as proxy:
            options = server.options(client_kwargs={"endpoint_url": proxy.endpoint})
            config = jobs.write_config(
                folder / "job.yaml",
                models,
                "s3://trial/list.txt",
                "s3://trial/out",
                storage={"options": {"s3": options}, "tries": _ATTEMPTS},
            )
            code = jobs.finish(config, *arguments, log=folder / "log.txt")
            return StoreResult(audit("s3://trial/out", direct), clips, code, dict(proxy.counts))

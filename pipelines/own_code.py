"""Which package `actors` runs, in the driver and in the workers, wherever the command is called: that beside this one.

`actors` and `pipelines` are names that a user's own folders may have, too. Python looks into `PYTHONPATH`, and Ray's
workers into the driver's current folder, before it looks where packages are installed.
"""

import importlib.util
import site
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("actors", "pipelines")
ROOT = Path(__file__).resolve().parents[1]  # the folder of both


def import_actors() -> None:
    """Have `import actors` give the package beside this one, and no other of that name."""
    own = ROOT / "actors" / "__init__.py"
    if "actors" in sys.modules:
        return
    found = importlib.util.find_spec("actors")
    if found is not None and found.origin is not None and Path(found.origin).resolve() == own:
        return
    spec = importlib.util.spec_from_file_location("actors", own, submodule_search_locations=[str(own.parent)])
    assert spec is not None, own
    assert spec.loader is not None, own
    sys.modules["actors"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def search_path(links: Path) -> str:
    """A folder to be searched before all others: in it `actors` and `pipelines` are ours.

    Of packages that are installed beside others, links in the folder `links`: to search all installed packages before
    Python's own library would give old copies of parts of that (`typing`, `enum`), where somebody has installed these.
    """
    if ROOT not in _installation_folders():
        return str(ROOT)
    for name in PACKAGES:
        (links / name).symlink_to(ROOT / name)
    return str(links)


def _installation_folders() -> set[Path]:
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()]
    return {Path(path).resolve() for path in [*paths, *site.getsitepackages()]}

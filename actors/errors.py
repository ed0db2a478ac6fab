"""Every error that stillreel raises on purpose, in one tree.

    StillreelError            one clear sentence for the person who runs the job
    |-- ConfigError           the configuration is wrong (exit code 2)
    |-- ManifestError         the manifest cannot be read (exit code 2)
    |-- CheckpointError       a checkpoint or a weight file is missing, damaged or of an unsupported kind (exit code 2)
    |-- StorageError          a file or an object could not be read, listed or written
    |-- ImageError            an image cannot be used: damaged, too large, not an image
    |-- GenerationError       a clip came out unusable
    |-- GpuMemoryError        a clip needs more memory than the GPU has to give
    |-- VideoError            encoding or probing a video failed
    `-- RunError              the run broke off before its end (exit code 1); what is finished is kept
        |-- BusyError         another run writes to the dataset (exit code 75); nothing was begun
        `-- WorkerDiedError   a worker died each time that it had the clip, or each time that it started

What a single row raises becomes that row's failure record; what the configuration, the manifest or a checkpoint raises
ends the run with its message and no traceback. Anything else that is raised is a bug of ours.

Messages name columns, values and files, and repeat what libraries say: secrets in them are masked, and they are made
printable, as they are made (`actors.secrets`, `actors.printable`).
"""

from actors.printable import printable
from actors.secrets import hidden


class StillreelError(Exception):
    """Base of all errors meant for the user; the message says what is wrong, where, and what to do.

    Class attributes:
        kept: characters that a message may hold although a terminal obeys them (`actors.printable`).
    """

    kept = ""

    def __init__(self, *said: object) -> None:
        super().__init__(*(printable(hidden(one), self.kept) if isinstance(one, str) else one for one in said))


class ConfigError(StillreelError):
    """The configuration is wrong; the message lists every mistake with its origin, each on a line of its own."""

    kept = "\n"


class ManifestError(StillreelError):
    """The manifest cannot be read."""


class CheckpointError(StillreelError):
    """A checkpoint or a weight file is missing, damaged or of an unsupported kind."""


class StorageError(StillreelError):
    """A file or an object could not be read, listed or written."""


class ImageError(StillreelError):
    """An image cannot be used: damaged, too large, or not an image at all."""


class GenerationError(StillreelError):
    """A clip came out unusable, or could not be generated with the settings given."""


class GpuMemoryError(StillreelError):
    """A clip needs more memory than the GPU has to give."""


class VideoError(StillreelError):
    """Encoding or probing a video failed."""


class RunError(StillreelError):
    """The run broke off before its end; what is finished is kept."""


class BusyError(RunError):
    """Another run writes to the dataset, so nothing was begun."""


class WorkerDiedError(RunError):
    """A worker died each time that it started, which ends the run; or each time that it had the clip that failed."""


def error_named(name: str, message: str) -> StillreelError:
    """An error of ours, from its class's name and its message: as it came from another process."""
    kinds = [StillreelError]
    for kind in kinds:  # which grows as it is walked
        if kind.__name__ == name:
            return kind(message)
        kinds += kind.__subclasses__()
    return StillreelError(message)


def first_line(error: Exception) -> str:
    """What a library's error says, without the hints and listings that many add below."""
    return str(error).strip().partition("\n")[0]

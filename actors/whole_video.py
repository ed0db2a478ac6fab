"""Whether a video file is whole: all of its frames are there and can be decoded."""

import subprocess
from pathlib import Path

import imageio_ffmpeg

from actors.errors import VideoError

# Decoding takes some tenths of a second; of a long clip of 8K on a busy machine minutes.
_LONGEST_DECODE_S = 600.0


def count_frames(path: Path) -> int:
    """Decode all frames of a video of ours, and say how many there are.

    Raises:
        VideoError: it is none, or one of its frames is damaged or missing.
    """
    container = "matroska" if path.suffix.lower() == ".mkv" else "mp4"
    # `-xerror`: ffmpeg would conceal what is damaged, and go on.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-xerror"]
    command += ["-protocol_whitelist", "file", "-err_detect", "explode", "-f", container, "-i", f"file:{path}"]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "pipe:1"]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LONGEST_DECODE_S
        )
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"ffmpeg did not decode {path} in {_LONGEST_DECODE_S:g} s") from error
    if result.returncode != 0 or result.stderr.strip():
        said = result.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise VideoError(f"{path} is damaged: {said or f'ffmpeg ended with code {result.returncode}'}")
    return sum(not line.startswith(b"#") for line in result.stdout.splitlines())

"""What one process compiles, the next one of the node reads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_CODE = """
import hashlib, json, sys, time
import torch
from torch._dynamo.utils import counters
from actors import compiling
from actors.svd.decoder import Decoder
from benchmarks.make_checkpoints import TINY_SIZES, draw_weights, new_vae

vae = draw_weights(new_vae(TINY_SIZES), torch.Generator().manual_seed(0)).eval().requires_grad_(False)
decoder = Decoder(vae.decoder).eval().to(sys.argv[1])
decoder.compile(**compiling.OPTIONS)
latents = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1)).to(sys.argv[1])
begun = time.perf_counter()
with torch.no_grad():
    frames = decoder(latents).cpu().numpy()
seconds = time.perf_counter() - begun
found = {name: count for counter in counters.values() for name, count in counter.items() if "cache" in str(name)}
found = {name: count for name, count in found.items() if name.startswith(("fxgraph_cache", "autograd_cache"))}
print(json.dumps({"digest": hashlib.sha256(frames.tobytes()).hexdigest(), "seconds": seconds, "found": found}))
"""


def _process(device: torch.device, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", _CODE, device.type]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_second_process_compiles_nothing_and_makes_the_same_bytes(device: torch.device, tmp_path: Path) -> None:
    first, second = (_process(device, tmp_path) for _ in range(2))
    assert second["digest"] == first["digest"]
    for answer, is_found in ((first, False), (second, True)):
        hits = sum(count for name, count in answer["found"].items() if name.endswith("_hit"))
        misses = sum(count for name, count in answer["found"].items() if name.endswith("_miss"))
        assert (hits > 0, misses > 0) == (is_found, not is_found), answer
    assert second["seconds"] < first["seconds"]

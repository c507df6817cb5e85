"""How fast trainings are fed from decoded pictures: `python -m bench.feeding`.

    python -m bench.feeding [--count 6667] [--size 1024 695] [--out results/feeding.json]

So many photographs of Aircraft's number and size are made (a few distinct pictures, each file with
bytes of its own), decoded into a map once, and read as a training on a GPU reads them: numbers are
drawn, crops cut, a batch handed over. Resizing and colours are the GPU's work there, so they are
not in these rows; augmenting an image by itself, as a CPU training does, stands beside them.
Seconds are those of the processor of one thread, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from varireal_utils.core import storage
from varireal_utils.core.config_sections import AugmentSettings
from varireal_utils.training import augment, feed, image_cache, pixel_maps
from varireal_utils.workflow import run_record

from .pipeline import PREPROCESS

DISTINCT, BATCH, STEPS = 24, 64, 30
WANTED, CORES = 3000, 2  # images a second, on so many cores (issue: fast where it is run)


def photographs(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """PNG files of (width, height), as 01_data stores them; returns their names."""
    rng, made = np.random.default_rng(0), []
    for _ in range(min(count, DISTINCT)):
        small = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
        smooth = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(int)
        grain = rng.integers(-3, 4, smooth.shape)
        picture = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        made.append(buffer.getvalue())
    names = [f"{n}.png" for n in range(count)]
    for n, name in enumerate(names):  # what follows a PNG's end is not read, and makes it another
        (folder / name).write_bytes(made[n % len(made)] + n.to_bytes(4, "big"))
    return names


def memory() -> float:
    """GB of this process at its largest, so far; files that it maps count."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(s for s in lines if s.startswith("VmHWM")).split()[1]) / 1e9


def processor_seconds(call: Callable[[], object]) -> float:
    """Seconds of all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def drained(batches: torch.utils.data.Dataset, steps: int) -> None:
    """Make batches 1 to `steps`, one at a time."""
    for step in range(1, steps + 1):
        batches[step]


def reading(images: image_cache.Images, count: int, steps: int) -> float:
    """Processor seconds an image, from the map to a batch of crops."""
    rows = np.random.default_rng(0).integers(0, count, (steps + 1, BATCH))
    crops = feed.CropBatches(images, rows, PREPROCESS["size"], AugmentSettings(), 0)
    crops[0]
    return processor_seconds(lambda: drained(crops, steps)) / (steps * BATCH)


def one_by_one(images: image_cache.Images, count: int, steps: int = 2) -> float:
    """Processor seconds an image of the per-image augmentation."""
    rows = np.random.default_rng(0).integers(0, count, (steps + 1, BATCH))
    batches = augment.Batches(images, rows, PREPROCESS, AugmentSettings(), 0)
    batches[0]
    return processor_seconds(lambda: drained(batches, steps)) / (steps * BATCH)


def measure(count: int, size: tuple[int, int]) -> dict:
    """One size of a set: seconds an image of each way, GB of memory and of the map."""
    torch.set_num_threads(1)
    side = PREPROCESS["size"]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        names = photographs(folder, count, size)
        pixel_maps.KEPT = 0.0  # however few, on the disk
        before, images = memory(), image_cache.Images(names, folder, side, maps=folder / "maps")
        making = processor_seconds(lambda: images[0]) / count
        stored = sum(p.stat().st_size for p in (folder / "maps").glob("*.map")) / 1e9
        pixel_maps.PixelMaps._whole.clear()  # as another training would find it
        again = image_cache.Images(names, folder, side, maps=folder / "maps")
        opening = processor_seconds(lambda: again[0])
        from_map = reading(again, count, STEPS)
        files = image_cache.Images(names, folder, side, memory=0.0)
        return {
            "photographs": count,
            "width": size[0],
            "height": size[1],
            "map_gb": stored,
            "memory_gb": memory() - before,
            "making_seconds": making,
            "opening_seconds": opening,
            "reading_seconds": from_map,
            "one_by_one_seconds": one_by_one(again, count),
            "from_files_seconds": one_by_one(files, count, 1),
            "images_per_second": CORES / from_map,
        }


def main(words: list[str] | None = None) -> int:
    """Measure, print, write; 1 where the map feeds too few images a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, nargs="+", default=[1667, 6667])
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 695])
    parser.add_argument("--out", type=Path, default=Path("results/feeding.json"))
    args = parser.parse_args(words)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    from .run import speed  # it imports this module

    tflops, rows = speed(torch.float32, repeats=5), []
    for count in args.count:
        rows.append(measure(count, (args.size[0], args.size[1])))
        print(rows[-1], flush=True)
    storage.write_json(
        args.out,
        {
            "rows": rows,
            "cores": CORES,
            "wanted": WANTED,
            "tflops": tflops,
            "started": started,
            "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            **run_record.git_state(),
        },
    )
    slow = [r for r in rows if r["images_per_second"] < WANTED]
    print("too slow" if slow else "fast enough")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())

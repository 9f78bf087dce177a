"""Measures how many synthetic scenes one core composes per second, including the names of their prompts.

    python benchmarks/scenes.py [SPRITES_DIR]

Prints a row for each size: scenes per second on average, and by the fastest of three rounds of each scene, which is
closer to the speed of an idle machine. Uses the emoji font if there is one, else drawn shapes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from glip.data.synthetic import SceneMaker, SpritePool, load_pool

SIZES = ((160, 160), (192, 192), (224, 224), (320, 320), (480, 480))
SCENES = 200
WARM_UP = 300  # until then every shape and size is drawn for the first time
ROUNDS = 3


def measure(maker: SceneMaker, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Returns scenes per second of processor time: on average, and by the fastest round of each scene."""
    seconds = []
    for index in range(SCENES):
        for _ in range(ROUNDS):
            start = time.process_time()
            maker.names(index, maker.scene(index, size_wh))
            seconds.append(time.process_time() - start)
    fastest = [min(seconds[place : place + ROUNDS]) for place in range(0, len(seconds), ROUNDS)]
    return len(seconds) / sum(seconds), len(fastest) / sum(fastest)


def main(pool: SpritePool) -> None:
    """Prints the table."""
    print(f"{len(pool.sprites)} images with a name")
    maker = SceneMaker.of_split(pool)
    for index in range(WARM_UP):
        maker.scene(SCENES + index, (224, 224))
    print(f"{'size':>9} {'scenes/s':>9} {'fastest of ' + str(ROUNDS):>13}")
    for size_wh in SIZES:
        average, fastest = measure(maker, size_wh)
        print(f"{size_wh[0]:>4}×{size_wh[1]:<4} {average:>9.0f} {fastest:>13.0f}", flush=True)


if __name__ == "__main__":
    main(load_pool(Path(sys.argv[1]) if len(sys.argv) > 1 else None))

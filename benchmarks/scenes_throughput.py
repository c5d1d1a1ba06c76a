"""How many scenes a second one core makes, with picture, captions and questions.

python -m benchmarks.scenes_throughput
"""

from __future__ import annotations

from statistics import median
from time import process_time

from diptych.data.scenes.captions import detailed, relational, short
from diptych.data.scenes.questions import questions
from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.foundation.randomness import stream

_SCENES, _ROUNDS = 2000, 5


def rates(size: int) -> list[float]:
    """Scenes a second of CPU time in each round, the sprites drawn before."""
    world = World(size=size)
    for index in range(_SCENES):
        render(world.scene(0, index), size)
    measured: list[float] = []
    for turn in range(1, _ROUNDS + 1):
        started = process_time()
        for index in range(_SCENES):
            scene, draw = world.scene(turn, index), stream(turn, 1, index)
            render(scene, size)
            short(scene, draw), detailed(scene, draw), relational(scene, draw)
            questions(scene, draw)
        measured.append(_SCENES / (process_time() - started))
    return measured


def main() -> None:
    """Print a row a size."""
    print(f"scenes a second of CPU, median (least .. most) of {_ROUNDS} rounds of {_SCENES}")
    for size in (64, 128):
        found = rates(size)
        print(f"  {size:3} px  {median(found):6.0f}  ({min(found):.0f} .. {max(found):.0f})")


if __name__ == "__main__":
    main()

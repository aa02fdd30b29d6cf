"""The seed's experiment by cfglab and by the bare denoiser alone, which is (c) of `seed`, more often. `make bench`.

python -m benchmarks.limit [--repeats 7] [--steps 50]
"""

from benchmarks.seed import compare
from benchmarks.turns import arguments

if __name__ == "__main__":
    given = arguments(__doc__, repeats=7, steps=50)
    compare(given.repeats, given.steps, others="")

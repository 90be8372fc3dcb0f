"""A modelled time: orders configurations where nothing was measured, and carries measurements over.

In products that one multiprocessor's tensor cores could have done, or in microseconds: only ratios
between estimates of one kernel mean anything. The constants of ``tiled_time`` were fitted to the
order of the mma.sync tiles over 110 shapes in bfloat16 on an NVIDIA H200.
"""

from __future__ import annotations

from .problem import Problem

WARPS_THAT_FILL_A_MULTIPROCESSOR = 8
EPILOGUE_IN_K = 512
"""What storing a tile costs, as so many more terms of its sums, where no other block hides it."""
SIDE_IN_COLUMNS = 64
"""What loading a row or column of a tile costs, as so many products for every term."""
LAUNCH = 1.4e7
"""An empty launch: 4 us at 3.5e12 products a second."""
PRODUCTS_PER_BYTE = 0.8
"""3.5e12 products a second of one multiprocessor, over 4.3e12 bytes a second of memory."""


def tiled_time(
    problem: Problem,
    tile_m: int,
    tile_n: int,
    *,
    blocks: int,
    warps_per_block: int,
    split_k: int = 1,
) -> float:
    """That of a kernel that computes tiles of tile_m x tile_n, each part of K by another block,
    ``blocks`` at once on each multiprocessor.

    The busiest multiprocessor's tiles, each its products and a share for its sides, slowed while
    too few warps are resident to keep the tensor cores busy, plus an epilogue that only other
    resident blocks can hide; no less than the operands' and the result's trip through memory.
    """
    parts = split_k * -(-problem.m // tile_m) * -(-problem.n // tile_n)
    each = -(-parts // max(problem.multiprocessors, 1))
    resident = max(1, min(each, blocks))
    busy: float = min(1.0, resident * warps_per_block / WARPS_THAT_FILL_A_MULTIPROCESSOR) ** 0.5
    work = tile_m * tile_n + SIDE_IN_COLUMNS * (tile_m + tile_n)
    exposed = EPILOGUE_IN_K if resident == 1 else 0
    return LAUNCH + max(each * work * (problem.k / split_k + exposed) / busy, memory_time(problem))


def memory_time(problem: Problem) -> float:
    """Every operand read once and the result written once."""
    m, n, k = problem.m, problem.n, problem.k
    return PRODUCTS_PER_BYTE * problem.dtype.itemsize * (m * k + n * k + m * n)


FILLS_MEMORY = 0.8
"""The part of the multiprocessors that must be streaming to keep memory busy."""


def streamed_time(problem: Problem, tile_m: int, tile_n: int) -> float:
    """That of a kernel whose every block streams a strip of at most tile_n columns of weights, and
    the rows of x for it.

    All blocks fetch x through the same L2; too few of them cannot keep memory busy.
    """
    m, n, k = problem.m, problem.n, problem.k
    strips = -(-n // tile_n)
    sweeps = -(-m // tile_m)  # over the weights
    rows = sweeps * tile_m  # of x, for every strip: those beyond m take room in the ring too
    fetched = problem.dtype.itemsize * (sweeps * n * k + strips * rows * k + m * n)
    starved = max(1.0, FILLS_MEMORY * max(problem.multiprocessors, 1) / (sweeps * strips))
    return LAUNCH + PRODUCTS_PER_BYTE * fetched * starved


MUCH_WEIGHT = 320 << 10
"""Bytes for each multiprocessor from which ``plan_strips`` fills them all."""
RING_OF_TWO = 112 << 10
"""Bytes of a ring of which a multiprocessor holds two."""
TAKEN_IN = 105e3
"""Bytes a microsecond of one multiprocessor, as the constants below."""
WEIGHT_STREAMED, L2_GIVEN_OUT = 4.0e6, 7.6e6
LATENCY = 1.1
"""Microseconds that a byte of weight is on its way."""
STEP = 0.005
ENDS, END_OF_A_TILE, PART, CROWD = 1.13, 2.3, 0.18, 0.56
"""Of any launch, of 64x128 outputs, of each further part of K, of each further block that a
multiprocessor holds."""


def strips_time(
    problem: Problem, rows: int, columns: int, *, split_k: int, tile_k: int, stages: int
) -> float:
    """That of ``cuda.sm90_skinny``, in microseconds, where launches follow in a CUDA graph.

    Fitted to 44 shapes and 20 instances in bfloat16, NVIDIA H200, docs/performance/skinny.md: the
    instance that it puts first takes 1.8 % longer than the fastest, in the geometric mean.
    """
    n, k, itemsize = problem.n, problem.k, problem.dtype.itemsize
    multiprocessors = max(problem.multiprocessors, 4)
    ring_of_weight = stages * columns * tile_k * itemsize
    two_fit = ring_of_weight * (rows + columns) / columns <= RING_OF_TWO
    # As plan_strips in csrc/cuda/sm90_skinny_instances.cuh.
    strips, even = -(-n // columns), multiprocessors // split_k
    much = n * k * itemsize >= MUCH_WEIGHT * multiprocessors
    if much and split_k <= 2 and strips <= even and 3 * even <= 5 * strips:
        strips = even
    blocks = strips * split_k
    on_one = -(-blocks // multiprocessors)
    taken = (n / strips + rows) * k / split_k * itemsize  # by a block
    under_way = min(blocks, multiprocessors * (2 if two_fit else 1)) * ring_of_weight
    streamed = n * k * itemsize / min(WEIGHT_STREAMED, under_way / LATENCY)
    steps = STEP * k / split_k / tile_k
    end = END_OF_A_TILE * rows * columns / split_k / (64 * 128) + PART * (split_k - 1)
    body = max(streamed + steps, blocks * taken / L2_GIVEN_OUT, on_one * taken / TAKEN_IN)
    return ENDS + end + CROWD * (on_one - 1) + body


FMA_ENDS, FMA_PART = 2.23, 0.22
"""Of any launch, and of each doubling of the parts of K."""
FMA_RATE = {4: 0.475, 8: 0.787}
"""The part of a multiprocessor's 128 FMA units that so many warps keep busy."""
FMA_CLOCKS_PER_MICROSECOND = 1755
FMA_STREAMED, FMA_LATENCY, FMA_L2 = 4.67e6, 0.68, 6.5e6
"""Bytes a microsecond of weights from memory, microseconds that they are on their way, and bytes a
microsecond that L2 gives out."""
FMA_TAKEN_IN = {True: 91e3, False: 33e3}
"""Bytes a microsecond of a multiprocessor, in whole vectors or in single elements."""
FMA_UNHIDDEN, FMA_TURN = 0.38, 1.0
"""Of the shorter of streaming and multiplying; microseconds of every turn but the first: a
judgement."""
RESIDENT_IN_CLUSTERS = {1: 1.0, 2: 1.0, 4: 30 * 4 / 132, 8: 15 * 8 / 132}
"""Of the blocks that would be resident without clusters of so many."""


def fma_strips_time(
    problem: Problem,
    rows: int,
    columns: int,
    *,
    split_k: int,
    tile_k: int,
    stages: int,
    warps: int,
    blocks: int,
    vectors: bool = True,
) -> float:
    """That of ``cuda.skinny_fp32``, in microseconds, where launches follow in a CUDA graph.

    A multiprocessor holds ``blocks`` at once, of ``warps``; they copy ``vectors``, or elements.

    Fitted to 17 shapes and 88 configurations, NVIDIA H200, docs/performance/fp32.md: of those built
    that were measured, the one that it puts first takes 2.3 % longer than the fastest, in the
    geometric mean.
    """
    n, k, itemsize = problem.n, problem.k, problem.dtype.itemsize
    multiprocessors = max(problem.multiprocessors, 8)
    launched = -(-n // columns) * split_k
    resident = int(multiprocessors * blocks * RESIDENT_IN_CLUSTERS[split_k])
    turns = -(-launched // resident)
    at_once = min(launched, resident)
    on_one = -(-at_once // multiprocessors)
    each = k / split_k
    few, many = sorted(FMA_RATE)
    crowd = min(max(on_one * warps - few, 0) / (many - few), 1.0)
    rate = FMA_RATE[few] + (FMA_RATE[many] - FMA_RATE[few]) * crowd
    products = rows * columns * each / (128 * FMA_CLOCKS_PER_MICROSECOND * rate)
    taken = (columns + rows) * each * itemsize  # by a block
    under_way = at_once * (stages - 1) * columns * tile_k * itemsize
    streamed = n * k * itemsize / min(FMA_STREAMED, under_way / FMA_LATENCY)
    multiplied = turns * on_one * products
    taken_in = turns * on_one * taken / FMA_TAKEN_IN[vectors]
    slowest = max(streamed, multiplied, launched * taken / FMA_L2, taken_in)
    ends = FMA_ENDS + FMA_PART * (split_k.bit_length() - 1) + FMA_TURN * (turns - 1)
    return ends + slowest + FMA_UNHIDDEN * min(streamed, multiplied)


CLOCKS_PER_MICROSECOND = 1581
POWER = 1.13
"""What the tensor cores take over their rated clocks, once the card's power is the limit."""
BYTES_PER_CLOCK = 62
"""What a multiprocessor takes in."""
L2_BYTES_PER_CLOCK = 54
"""Its share of what the L2 gives out, with every multiprocessor asking."""
STAGE_BYTES = 128
"""A stage's part of a row of an operand."""
CLUSTERS_OF_4 = 30 / 132
"""Those that are resident at once, for every multiprocessor: some share a GPC with too few."""
START = 4.8
"""Microseconds from the launch to the first products, and from the last to the end."""
COLD_BYTES_PER_MICROSECOND = 2.9e6


def clustered_time(
    problem: Problem,
    tile: tuple[int, int],
    cluster: tuple[int, int],
    *,
    split_k: int,
    pingpong: bool,
) -> float:
    """That of a warp-specialised kernel of sm_90a, in microseconds.

    Fitted to 26 shapes and 25 instances in bfloat16, NVIDIA H200: docs/performance/hopper.md.
    """
    m, n, k, itemsize = problem.m, problem.n, problem.k, problem.dtype.itemsize
    multiprocessors = max(problem.multiprocessors, 4)
    (tile_m, tile_n), (cluster_m, cluster_n) = tile, cluster
    blocks = cluster_m * cluster_n * split_k
    resident = multiprocessors // blocks
    if blocks == 4:
        resident = int(CLUSTERS_OF_4 * multiprocessors)
    clusters = -(-m // (tile_m * cluster_m)) * -(-n // (tile_n * cluster_n))
    waves = -(-clusters // resident)
    busy = min(clusters, resident) * blocks / multiprocessors
    fetched = tile_m / cluster_n + tile_n / cluster_m  # rows, by one block from L2
    stage = max(
        POWER * tile_m * tile_n / 32,
        (tile_m + tile_n) * STAGE_BYTES / BYTES_PER_CLOCK,
        fetched * STAGE_BYTES * busy / L2_BYTES_PER_CLOCK,
    )
    accumulators = tile_m * tile_n / 256  # of one thread
    products = -(-k * itemsize // STAGE_BYTES) / split_k * stage
    if pingpong:
        epilogue = 59 * accumulators
        clocks = waves * max(products, epilogue / 2) + epilogue
    else:
        clocks = waves * (products + 29 * accumulators / split_k + 60)
    if split_k > 1:
        clocks += waves * (810 + 122 * accumulators * (split_k - 1) / split_k)
    cold = itemsize * (m * k + n * k) / COLD_BYTES_PER_MICROSECOND
    return START + max(clocks / CLOCKS_PER_MICROSECOND, cold)

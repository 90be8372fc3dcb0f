"""The compiled CUDA kernels, as the catalogue states them, as Kernel values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from fusedops import native
from fusedops.registry import (
    Accumulation,
    BackwardProblem,
    Kernel,
    Launch,
    Parameters,
    Problem,
    Space,
    clustered_time,
    dtype_name,
    fma_strips_time,
    streamed_time,
    strips_time,
    tiled_time,
)
from fusedops.workspace import workspace


@dataclass(frozen=True, slots=True)
class Instance:
    """A compiled instance of a kernel: its index in the library, and its label."""

    index: int
    label: str

    def __str__(self) -> str:
        return self.label


def cuda_kernels() -> tuple[Kernel, ...]:
    """One kernel for each name in the catalogue, its configurations the compiled instances."""
    catalogue = native.catalogue()
    if catalogue is None:
        return ()
    grouped: dict[str, list[Any]] = {}
    for instance in catalogue.instances():
        grouped.setdefault(instance.kernel, []).append(instance)
    return tuple(_kernel(name, instances) for name, instances in grouped.items())


def _kernel(name: str, instances: Sequence[Any]) -> Kernel:
    return Kernel(
        name=name,
        backend="cuda",
        accumulation=partial(_accumulation, instances),
        why_not=partial(_why_not, instances),
        configs=partial(_configs, instances),
        prepare=_prepare,
        summation=lambda problem, config: _compiled(config).summation,
        estimate=lambda problem, config: estimated_time(problem, _compiled(config)),
        writes_z=all(instance.for_gradients for instance in instances),
        reads_scale=all(instance.for_gradients for instance in instances),
        space=lambda problem: Space(_configs(instances, problem), _parameters),
    )


def _parameters(config: Instance) -> Parameters:
    instance = _compiled(config)
    sides = dict(zip(("block_m", "block_n", "block_k"), instance.tile, strict=True))
    cluster = dict(zip(("cluster_m", "cluster_n"), instance.cluster, strict=True))
    split = {"split": _split(instance)}
    return {
        **sides,
        **cluster,
        **split,
        "num_warps": instance.threads // 32,
        "num_stages": instance.stages,
    }


def _split(instance: Any) -> int:
    """The parts of K that different blocks add up."""
    found = SPLIT.search(instance.summation)
    return int(found[1]) if found else 1


def _compiled(config: Instance) -> Any:
    return _catalogue()[config.index]


@cache
def _catalogue() -> Sequence[Any]:
    catalogue = native.catalogue()
    assert catalogue is not None
    return tuple(catalogue.instances())


def _accumulation(instances: Sequence[Any], problem: Problem) -> Accumulation:
    """That of the instances of the problem's dtype; they agree."""
    same = [each for each in instances if each.dtype == dtype_name(problem.dtype)] or instances
    return Accumulation(same[0].unit_roundoff, same[0].chain, same[0].spacing)


def _reasons(instance: Any, problem: Problem) -> tuple[str, ...]:
    if problem.device != "cuda":
        return (f"it runs on CUDA tensors; these are on {problem.device}",)
    return tuple(
        instance.why_not(
            m=problem.m,
            n=problem.n,
            k=problem.k,
            dtype=dtype_name(problem.dtype),
            bias_dtype=None if problem.bias_dtype is None else dtype_name(problem.bias_dtype),
            x_strides=problem.x_strides,
            weight_strides=problem.weight_strides,
            alignment=problem.alignment,
            capability=problem.capability,
            allow_tf32=problem.fp32_precision == "tf32",
            allow_fp16_accumulation=problem.allow_fp16_accumulation,
        )
    )


def _why_not(instances: Sequence[Any], problem: Problem) -> tuple[str, ...]:
    """Nothing if some instance takes the problem; else the reasons of the one nearest to it.

    Of equals the largest tile's, which takes the most.
    """
    wanted = dtype_name(problem.dtype)
    same_dtype = [each for each in instances if each.dtype == wanted]
    largest_first = sorted(same_dtype or instances, key=lambda each: each.tile, reverse=True)
    reasons = min((_reasons(each, problem) for each in largest_first), key=len)
    if same_dtype:
        return reasons
    known = " and ".join(sorted({each.dtype for each in instances}))
    of_one = f"it computes {largest_first[0].dtype}, not {wanted}"
    return tuple(each.replace(of_one, f"it computes {known}, not {wanted}") for each in reasons)


def _configs(instances: Sequence[Any], problem: Problem) -> tuple[Instance, ...]:
    able = [each for each in instances if not _reasons(each, problem)]
    able.sort(key=partial(estimated_time, problem))
    return tuple(Instance(each.index, each.label) for each in able)


SPLIT = re.compile(r"_split(\d+)")
STREAMED, STRIPS, FMA_STRIPS = "cuda.skinny", "cuda.sm90_skinny", "cuda.skinny_fp32"
ANY_LAYOUT = "_any"
"""How the labels of instances end that copy single elements, wherever they lie."""
CLUSTERED = (
    "cuda.sm90_cooperative",
    "cuda.sm90_pingpong",
    "cuda.sm90_transposed",
    "cuda.sm90_tf32",
)


def estimated_time(problem: Problem, instance: Any) -> float:
    """That of a compiled instance, by the model for its kind of kernel."""
    tile_m, tile_n, tile_k = instance.tile
    split_k = _split(instance)
    if instance.kernel == STREAMED:
        return streamed_time(problem, tile_m, tile_n)
    if instance.kernel == STRIPS:
        return strips_time(
            problem, tile_m, tile_n, split_k=split_k, tile_k=tile_k, stages=instance.stages
        )
    blocks = _blocks_per_multiprocessor(instance, problem.capability)
    if instance.kernel == FMA_STRIPS:
        return fma_strips_time(
            problem,
            tile_m,
            tile_n,
            split_k=split_k,
            tile_k=tile_k,
            stages=instance.stages,
            warps=instance.threads // 32,
            blocks=blocks,
            vectors=not instance.label.endswith(ANY_LAYOUT),
        )
    if instance.kernel in CLUSTERED:
        return clustered_time(
            problem,
            (tile_m, tile_n),
            instance.cluster,
            split_k=split_k,
            pingpong=instance.kernel == "cuda.sm90_pingpong",
        )
    return tiled_time(
        problem,
        tile_m,
        tile_n,
        blocks=blocks,
        warps_per_block=instance.threads // 32,
        split_k=split_k,
    )


def _blocks_per_multiprocessor(instance: Any, capability: tuple[int, int] | None) -> int:
    """The compiler's figure for the card, or for the compiled architecture nearest to it."""
    wanted = 10 * capability[0] + capability[1] if capability else 0

    def distance(resources: Any) -> int:
        return abs(int(resources["arch"].removeprefix("sm_").rstrip("af")) - wanted)

    return int(min(instance.resources, key=distance)["occupancy_blocks"])


def _prepare(problem: Problem, config: Instance) -> Launch:
    bias_dtype = problem.bias_dtype
    start = _compiled(config).launcher(
        m=problem.m,
        n=problem.n,
        k=problem.k,
        bias_dtype=None if bias_dtype is None else dtype_name(bias_dtype),
        x_strides=problem.x_strides,
        weight_strides=problem.weight_strides,
        multiprocessors=problem.multiprocessors,
    )
    current_stream = torch._C._cuda_getCurrentRawStream

    def launch(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        out: torch.Tensor,
    ) -> None:
        start(
            x.data_ptr(),
            weight.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            scale,
            out.data_ptr(),
            current_stream(x.get_device()),
        )

    def launch_for_gradient(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float | torch.Tensor,
        out: torch.Tensor,
        z: torch.Tensor | None = None,
    ) -> None:
        in_memory = scale.to(torch.float32) if isinstance(scale, torch.Tensor) else None
        start(
            x.data_ptr(),
            weight.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            0.0 if in_memory is not None else scale,
            out.data_ptr(),
            current_stream(x.get_device()),
            0 if in_memory is None else in_memory.data_ptr(),
            0 if z is None else z.data_ptr(),
        )

    plain = not problem.writes_z and problem.scale_dtype is None
    return launch if plain else launch_for_gradient


def cuda_backward_kernels() -> tuple[Kernel, ...]:
    """The compiled kernel of the gradient with respect to z; its instances differ in dtype."""
    catalogue = native.catalogue()
    instances = () if catalogue is None else tuple(catalogue.backward_instances())
    if not instances:
        return ()
    return (
        Kernel(
            name=instances[0].kernel,
            backend="cuda",
            accumulation=lambda problem: Accumulation(instances[0].unit_roundoff),
            why_not=partial(_backward_why_not, instances),
            configs=partial(_backward_configs, instances),
            prepare=partial(_prepare_backward, instances),
            reads_scale=True,
        ),
    )


def _backward_reasons(instance: Any, problem: BackwardProblem) -> tuple[str, ...]:
    if problem.device != "cuda":
        return (f"it runs on CUDA tensors; these are on {problem.device}",)
    return tuple(
        instance.why_not(
            m=problem.m,
            n=problem.n,
            dtype=dtype_name(problem.dtype),
            steps=problem.steps,
            capability=problem.capability,
        )
    )


def _backward_why_not(instances: Sequence[Any], problem: Problem) -> tuple[str, ...]:
    if not isinstance(problem, BackwardProblem):
        return (f"the operator is {problem.op}, and it computes its gradient",)
    same_dtype = [each for each in instances if each.dtype == dtype_name(problem.dtype)]
    return min((_backward_reasons(each, problem) for each in same_dtype or instances), key=len)


def _backward_configs(instances: Sequence[Any], problem: Problem) -> tuple[Instance, ...]:
    assert isinstance(problem, BackwardProblem)
    able = [each for each in instances if not _backward_reasons(each, problem)]
    return tuple(Instance(each.index, each.label) for each in able)


def _prepare_backward(instances: Sequence[Any], problem: Problem, config: Instance) -> Launch:
    assert isinstance(problem, BackwardProblem)
    compiled = instances[config.index]
    bias_dtype, scale_dtype = problem.bias_dtype, problem.scale_dtype
    results = {
        "bias_dtype": None if bias_dtype is None else dtype_name(bias_dtype),
        "wants_dscale": problem.wants_dscale,
        "multiprocessors": problem.multiprocessors,
    }
    start = compiled.launcher(
        m=problem.m,
        n=problem.n,
        steps=problem.steps,
        scale_dtype=None if scale_dtype is None else dtype_name(scale_dtype),
        **results,
    )
    partials, counters = compiled.workspace(m=problem.m, n=problem.n, **results)
    scratch = workspace(partials, torch.float32, counters)
    current_stream = torch._C._cuda_getCurrentRawStream

    def launch(
        grad: torch.Tensor,
        saved: torch.Tensor,
        scale: float | torch.Tensor,
        dz: torch.Tensor | None,
        dbias: torch.Tensor | None,
        dscale: torch.Tensor | None,
    ) -> None:
        sums, arrivals = scratch(grad.device)
        number, on_device = (
            (0.0, scale.data_ptr()) if isinstance(scale, torch.Tensor) else (scale, 0)
        )
        start(
            grad.data_ptr(),
            saved.data_ptr(),
            number,
            on_device,
            0 if dz is None else dz.data_ptr(),
            0 if dbias is None else dbias.data_ptr(),
            0 if dscale is None else dscale.data_ptr(),
            sums.data_ptr(),
            arrivals.data_ptr(),
            current_stream(grad.get_device()),
        )

    return launch

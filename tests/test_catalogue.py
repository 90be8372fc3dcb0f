"""The compiled CUDA kernels, from their own statements and the compiler's report."""

from __future__ import annotations

import pytest

from fusedops import native
from fusedops.cuda_backend import ANY_LAYOUT, CLUSTERED, FMA_STRIPS, STREAMED, STRIPS
from fusedops.registry.heuristic import ON_CUDA_WITH_FEW_ROWS

catalogue = native.catalogue()
pytestmark = pytest.mark.skipif(
    catalogue is None or not catalogue.instances(),
    reason="the CUDA C++ backend was not built: nothing to check",
)
ON_ADA = 99 << 10
FP16_ACCUMULATION = "cuda.sm80_fp16_accumulation"


def instances():
    return catalogue.instances() if catalogue is not None else []


def problem(instance, **changes):
    few_rows = instance.kernel in {"cuda.sm90_skinny", FMA_STRIPS}
    fits = {
        **{
            "m": instance.tile[0] if few_rows else 512,
            "n": 512,
            "k": 512,
            "dtype": instance.dtype,
            "bias_dtype": None,
        },
        **{"x_strides": (512, 1), "weight_strides": (512, 1), "alignment": 16},
        "capability": divmod(instance.min_capability, 10),
        **{"allow_tf32": True, "allow_fp16_accumulation": True},
    }
    return {**fits, **changes}


LAYOUTS = ("x along K", "weight's rows", "alignment")
"""What instances that copy single elements do not refuse: cuda.simt's none of these."""


def accepted_layouts(instance):
    if instance.kernel == "cuda.simt":
        return LAYOUTS
    return LAYOUTS[1:] if instance.label.endswith(ANY_LAYOUT) else ()


TILED = {"cuda.sm80_multistage", FP16_ACCUMULATION, "cuda.simt", "cuda.sm90_fp32_split"}
"""Whose time is modelled as that of tiles; the backend names the others."""


def test_the_time_and_the_place_of_every_kernel_are_known():
    kernels = {each.kernel for each in instances()}
    assert kernels <= {STREAMED, STRIPS, FMA_STRIPS, *CLUSTERED, *TILED}
    assert kernels <= set(ON_CUDA_WITH_FEW_ROWS)


def test_the_dtypes_of_every_kernel():
    kernels: dict[str, set[str]] = {}
    for each in instances():
        kernels.setdefault(each.kernel, set()).add(each.dtype)
    assert kernels["cuda.sm80_multistage"] == {"float16", "bfloat16"}
    assert kernels.pop(FP16_ACCUMULATION) == {"float16"}
    assert kernels["cuda.simt"] == {"float32"}
    for name, dtypes in kernels.items():
        assert dtypes in ({"float16", "bfloat16"}, {"float32"}), name


@pytest.mark.parametrize("instance", instances(), ids=lambda each: f"{each.kernel}:{each.label}")
def test_resources(instance):
    built = {arch.rstrip("af") for arch in catalogue.build_info()["architectures"]}
    runs_on = {arch for arch in built if int(arch) >= instance.min_capability}
    reported = {each["arch"].removeprefix("sm_").rstrip("af"): each for each in instance.resources}
    assert runs_on & reported.keys()
    for arch, resources in reported.items():
        assert resources["spill_bytes"] == 0
        assert 0 < resources["registers"] <= 255
        assert resources["occupancy_blocks"] >= 1 or resources["limiter"] == "unknown"
        if arch == "89":
            assert instance.shared_memory + resources["static_shared"] <= ON_ADA


@pytest.mark.parametrize("instance", instances(), ids=lambda each: f"{each.kernel}:{each.label}")
def test_the_predicate_gives_every_reason(instance):
    assert instance.why_not(**problem(instance)) == []
    other = "bfloat16" if instance.dtype == "float16" else "float16"
    refused = {
        "capability": {"capability": (7, 5)},
        "dtype": {"dtype": other},
        "bias": {"bias_dtype": "float64"},
        "x along K": {"x_strides": (1, 512)},
        "weight's rows": {"weight_strides": (513, 1)},
        "alignment": {"alignment": 2},
        "no GPU": {"capability": None},
    }
    for layout in accepted_layouts(instance):
        assert instance.why_not(**problem(instance, **refused.pop(layout))) == []
    for change in refused.values():
        reasons = instance.why_not(**problem(instance, **change))
        assert reasons and all(len(reason.split()) > 3 for reason in reasons), change
    everything = {key: value for change in refused.values() for key, value in change.items()}
    assert len(instance.why_not(**problem(instance, **everything))) >= len(everything)


def test_labels_are_unique():
    labels = [(each.kernel, each.label) for each in instances()]
    assert len(set(labels)) == len(labels)
    assert [each.index for each in instances()] == list(range(len(labels)))


def on_ada():
    """Each instance that an RTX 4090 can run, with what ptxas says of it there."""
    return [
        pytest.param(instance, resources, id=f"{instance.kernel}:{instance.label}")
        for instance in instances()
        if instance.min_capability <= 89 <= instance.max_capability
        for resources in instance.resources
        if resources["arch"] == "sm_89"
    ]


@pytest.mark.parametrize(("instance", "resources"), on_ada())
def test_ada(instance, resources):
    assert resources["spill_bytes"] == 0
    assert instance.shared_memory + resources["static_shared"] <= ON_ADA
    assert resources["limiter"] != "unknown"
    resident = resources["occupancy_blocks"]
    assert resident >= 1
    assert resources["occupancy_warps"] == resident * instance.threads // 32
    assert resident * (instance.shared_memory + (1 << 10)) <= 100 << 10  # 1 KiB a block is reserved
    assert resident * instance.threads * resources["registers"] <= 64 << 10


def test_float16_sums_only_where_the_user_allows_them():
    found = [each for each in instances() if each.kernel == FP16_ACCUMULATION]
    assert found
    for instance in found:
        assert instance.why_not(**problem(instance)) == []
        (reason,) = instance.why_not(**problem(instance, allow_fp16_accumulation=False))
        assert "allow_fp16_accumulation" in reason
        assert instance.unit_roundoff > 2**-24 and instance.spacing == 2**-24
    assert {each.spacing for each in instances() if each.kernel != FP16_ACCUMULATION} == {0.0}


def test_one_order_of_summation_for_each_sm80_kernel():
    for name in ("cuda.sm80_multistage", FP16_ACCUMULATION):
        assert len({each.summation for each in instances() if each.kernel == name}) == 1

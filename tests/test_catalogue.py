"""The compiled CUDA kernels, from their own statements and the compiler's report."""

from __future__ import annotations

import pytest

from fusedops import native

catalogue = native.catalogue()
pytestmark = pytest.mark.skipif(
    catalogue is None or not catalogue.instances(),
    reason="the CUDA C++ backend was not built: nothing to check",
)
ON_ADA = 99 << 10


def instances():
    return catalogue.instances() if catalogue is not None else []


def problem(instance, **changes):
    fits = {
        **{"m": 512, "n": 512, "k": 512, "dtype": instance.dtype, "bias_dtype": None},
        **{"x_strides": (512, 1), "weight_strides": (512, 1), "alignment": 16},
        "capability": divmod(instance.min_capability, 10),
        **{"allow_tf32": True, "allow_fp16_accumulation": True},
    }
    return {**fits, **changes}


def test_every_kernel_comes_in_both_half_types():
    kernels = {(each.kernel, each.dtype) for each in instances()}
    names = {name for name, _ in kernels}
    assert "cuda.sm80_multistage" in names
    assert kernels == {(name, dtype) for name in names for dtype in ("float16", "bfloat16")}


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
    for change in refused.values():
        reasons = instance.why_not(**problem(instance, **change))
        assert reasons and all(len(reason.split()) > 3 for reason in reasons), change
    everything = {key: value for change in refused.values() for key, value in change.items()}
    assert len(instance.why_not(**problem(instance, **everything))) >= 6


def test_labels_are_unique():
    labels = [(each.kernel, each.label) for each in instances()]
    assert len(set(labels)) == len(labels)
    assert [each.index for each in instances()] == list(range(len(labels)))

from typing import Protocol, TypedDict

class Resources(TypedDict):
    arch: str
    registers: int
    spill_bytes: int
    static_shared: int
    occupancy_blocks: int
    occupancy_warps: int
    limiter: str

class BuildInfo(TypedDict):
    architectures: list[str]
    cuda: str | None
    cutlass: str | None
    torch_target: str

class _Launch(Protocol):
    def __call__(
        self,
        x: int,
        weight: int,
        bias: int,
        scale: float,
        out: int,
        stream: int,
        scale_in_memory: int = 0,
        z: int = 0,
        /,
    ) -> None: ...

class Instance:
    @property
    def kernel(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def min_capability(self) -> int: ...
    @property
    def max_capability(self) -> int: ...
    @property
    def tile(self) -> tuple[int, int, int]: ...
    @property
    def for_gradients(self) -> bool: ...
    @property
    def cluster(self) -> tuple[int, int]: ...
    @property
    def stages(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def shared_memory(self) -> int: ...
    @property
    def unit_roundoff(self) -> float: ...
    @property
    def chain(self) -> float: ...
    @property
    def spacing(self) -> float: ...
    @property
    def summation(self) -> str: ...
    @property
    def resources(self) -> list[Resources]: ...
    def why_not(
        self,
        *,
        m: int,
        n: int,
        k: int,
        dtype: str,
        bias_dtype: str | None,
        x_strides: tuple[int, int],
        weight_strides: tuple[int, int],
        alignment: int,
        capability: tuple[int, int] | None,
        allow_tf32: bool,
        allow_fp16_accumulation: bool,
    ) -> list[str]: ...
    def launcher(
        self,
        *,
        m: int,
        n: int,
        k: int,
        bias_dtype: str | None,
        x_strides: tuple[int, int],
        weight_strides: tuple[int, int],
        multiprocessors: int,
    ) -> _Launch: ...

class _LaunchBackward(Protocol):
    def __call__(
        self,
        grad: int,
        saved: int,
        scale: float,
        device_scale: int,
        dz: int,
        dbias: int,
        dscale: int,
        partials: int,
        counters: int,
        stream: int,
        /,
    ) -> None: ...

class BackwardInstance:
    @property
    def kernel(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def min_capability(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def unit_roundoff(self) -> float: ...
    @property
    def resources(self) -> list[Resources]: ...
    def why_not(
        self,
        *,
        m: int,
        n: int,
        dtype: str,
        steps: int,
        capability: tuple[int, int] | None,
    ) -> list[str]: ...
    def workspace(
        self,
        *,
        m: int,
        n: int,
        bias_dtype: str | None,
        wants_dscale: bool,
        multiprocessors: int,
    ) -> tuple[int, int]: ...
    def launcher(
        self,
        *,
        m: int,
        n: int,
        steps: int,
        bias_dtype: str | None,
        scale_dtype: str | None,
        wants_dscale: bool,
        multiprocessors: int,
    ) -> _LaunchBackward: ...

def instances() -> list[Instance]: ...
def backward_instances() -> list[BackwardInstance]: ...
def build_info() -> BuildInfo: ...

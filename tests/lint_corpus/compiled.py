"""Small kernels to compile: one that is right, and others with what the compiled rules are for."""

import triton
import triton.language as tl


@triton.jit
def place(pointer, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, BLOCK)
    return pointer + rows[:, None] * BLOCK + columns[None, :]


@triton.jit
def multiplied(x, weight, BLOCK: tl.constexpr):
    return tl.dot(tl.load(place(x, BLOCK)), tl.load(place(weight, BLOCK)))


@triton.jit
def right(x, weight, out, BLOCK: tl.constexpr):
    tl.store(place(out, BLOCK), multiplied(x, weight, BLOCK).to(tl.float16))


@triton.jit
def stores_twice(x, weight, out, BLOCK: tl.constexpr):
    z = multiplied(x, weight, BLOCK)
    tl.store(place(out, BLOCK), z.to(tl.float16))
    tl.store(place(out, BLOCK), (z + 1.0 / (1.0 + tl.exp(-z))).to(tl.float16))


@triton.jit
def stores_to_an_input(x, weight, out, BLOCK: tl.constexpr):
    z = multiplied(x, weight, BLOCK)
    tl.store(place(x, BLOCK), z.to(tl.float16))
    tl.store(place(out, BLOCK), (z + 1.0).to(tl.float16))


@triton.jit
def stores_to_an_input_alone(x, weight, out, BLOCK: tl.constexpr):
    tl.store(place(x, BLOCK), multiplied(x, weight, BLOCK).to(tl.float16))


@triton.jit
def stores_by_an_address_in_memory(x, weight, out, BLOCK: tl.constexpr):
    elsewhere = tl.load(weight.to(tl.pointer_type(tl.int64))).to(tl.pointer_type(tl.float16))
    tl.store(place(elsewhere, BLOCK), multiplied(x, weight, BLOCK).to(tl.float16))


@triton.jit
def adds_atomically(x, weight, out, BLOCK: tl.constexpr):
    tl.atomic_add(place(out, BLOCK), multiplied(x, weight, BLOCK).to(tl.float16))


@triton.jit
def without_tensor_cores(x, weight, out, BLOCK: tl.constexpr):
    z = tl.load(place(x, BLOCK)) * tl.load(place(weight, BLOCK)) + 1.0
    tl.store(place(out, BLOCK), z)

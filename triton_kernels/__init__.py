"""Triton kernels."""
KERNELS: tuple = ()

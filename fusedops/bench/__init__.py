"""The benchmark as a library: what is timed, how, against what, and how it is written down."""

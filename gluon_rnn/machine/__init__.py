"""How a process must start, what this machine has, and which BLAS is fastest on it.

Other subpackages use `process_environment`, `describe_machine` and `blas`.
"""

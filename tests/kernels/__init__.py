"""The numerical tests under every kernel that one machine can be told to use: ``make test-kernels``."""

"""``make test-kernels``: run the tests marked numerical under every kernel and write docs/kernels.md."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from gluon_rnn.common.files import write_atomically
from gluon_rnn.machine.hardware import describe_machine
from tests.kernels.kernels import (
    KERNELS,
    Kernel,
    Outcome,
    environment,
    installed_libraries,
    lacks,
    probe,
    processor_flags,
    run_tests,
)
from tests.kernels.table import PAGE, renewed, row

#: The tests that run under every kernel, and those of the short form.
NUMERICAL = ("-m", "numerical")
SHORT = (*NUMERICAL, "tests/training/test_step.py", "tests/networks/test_layers.py")


def try_kernels(kernels: Sequence[Kernel], threads: Sequence[int], selection: Sequence[str]) -> Iterator[Outcome]:
    """Try each kernel with each number of threads, in fresh processes."""
    libraries, flags = installed_libraries(), processor_flags()
    tried: dict[tuple[int, str, str, str], str] = {}
    for kernel in kernels:
        for count in threads:
            lack = lacks(kernel, flags=flags, libraries=libraries)
            if lack:
                yield Outcome(kernel.name, count, skipped=lack)
                continue
            environ = environment(kernel, count, libraries=libraries)
            outcome = probe(kernel, count, environ)
            twin = tried.setdefault((count, outcome.blas, outcome.instructions, outcome.products), kernel.name)
            if outcome.trouble:
                yield outcome
            elif twin != kernel.name:
                # A library may do what it likes with what it is told; MKL ignores it on another vendor's processor.
                yield replace(outcome, skipped=f"what it loads and computes is what `{twin}` does, to the bit")
            else:
                yield run_tests(outcome, environ, selection)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-kernels", description=__doc__)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="kernels, such as 'mkl*'")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument(
        "--short", action="store_true", help="what each library chooses itself, and few tests; the page stays as it is"
    )
    parser.add_argument("--list", action="store_true", help="name the kernels and run nothing")
    return parser.parse_args()


def main() -> int:
    """Try what was asked for; 1 where something failed."""
    arguments = _arguments()
    kernels = [kernel for kernel in KERNELS if any(fnmatchcase(kernel.name, name) for name in arguments.only)]
    if arguments.list or not kernels:
        print("\n".join(kernel.name for kernel in KERNELS))
        return 0 if arguments.list else 2
    if arguments.short:
        kernels = [kernel for kernel in kernels if not kernel.variables]
    machine, order, red = describe_machine(), [kernel.name for kernel in KERNELS], False
    started = time.monotonic()
    threads = arguments.threads[-1:] if arguments.short else arguments.threads
    for outcome in try_kernels(kernels, threads, SHORT if arguments.short else NUMERICAL):
        print(f"{time.monotonic() - started:5.0f} s {row(outcome)}", flush=True)
        red |= outcome.is_red
        if not arguments.short:
            # At once, so that no row is lost with what comes after it.
            page = renewed(PAGE.read_text(encoding="utf-8"), machine, [outcome], order=order)
            write_atomically(PAGE, page)
    return int(red)


if __name__ == "__main__":
    # Ending this process also ends the one that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

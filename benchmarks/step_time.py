"""How long a training step takes, beside the notebook's loop, PyTorch's example, and what the machine can do.

    .venv/bin/python benchmarks/step_time.py [--hidden-size 200] [--cell lstm] [--bptt 35] [--output FOLDER]

Every contender lives in a process of its own, with the environment its users would have, and is stopped while another
is timed, since idle threads may spin; the rounds go through them in turn (A B C A B C ...), so that a machine that
slows down slows all. A step is forward, backward, clipping and update; the loss is read once a round, as at a log
interval. Written to ``--output``: a CSV of each round and a table of the medians.

Contenders: the notebook's loop on GluonNLP's model with MXNet as it is installed; this suite's ``train_epoch``, also
with the cell from scratch and with ``precision=bfloat16``; and, where torch is installed (the extra ``bench``),
PyTorch's word_language_model, as shipped (log-softmax and negative log-likelihood) and with the fused cross-entropy.
The words are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu.pytorch_step import VOCABULARY, Steps, pytorch_steps
from gluon_rnn.machine.blas import BLAS_VARIABLE, installed, mkl_library
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import Machine, default_threads, describe_machine
from gluon_rnn.machine.memory import peak_rss_mb

TITLES = {
    "notebook": "notebook's loop, MXNet as installed",
    "pytorch": "PyTorch's example as shipped",
    "pytorch-fused": "PyTorch's example, fused cross-entropy",
    "suite": "this suite",
    "suite-from-scratch": "this suite, the cell from scratch",
    "suite-bfloat16": "this suite, precision=bfloat16",
}
#: What ``--environment`` leaves out of, or changes in, the environment that `process_environment` chooses: settings to
#: build on, and settings that replace its own (None: unset).
CHANGES: dict[str, tuple[str, dict[str, str], dict[str, str | None]]] = {
    "all": ("the suite's environment", {}, {}),
    **{library.name: (f"{BLAS_VARIABLE}={library.name}", {BLAS_VARIABLE: library.name}, {}) for library in installed()},
    "pages": ("without huge pages and the heap that keeps its blocks", {}, {"GLIBC_TUNABLES": None}),
    "sleep": ("idle threads sleep at once", {}, {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": None}),
    "spin": ("idle threads spin", {}, {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": None}),
    "timeout": ("OpenBLAS's threads spin as long as it likes", {}, {"OPENBLAS_THREAD_TIMEOUT": None}),
    "one": ("one thread", {}, dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")),
    "off": ("GLUON_RNN_TUNING=off: the threads alone", {"GLUON_RNN_TUNING": "off"}, {}),
}
#: That have a cell written as its equations.
FROM_SCRATCH = ("lstm", "gru", "rnn_tanh")
#: What a user of MXNet has not set.
TUNED = ("OMP_", "OPENBLAS_", "MKL_", "MXNET_", "GLIBC_TUNABLES", "LD_PRELOAD", "GOMP_", "KMP_")


def ceiling_rates(options: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """A function that measures the best rates of a decoder's matrix product and of a copy as large as the logits.

    Returns:
        GFLOP/s and GB/s (read and written), each the best of five.
    """
    import mxnet as mx

    tokens = options.bptt * options.batch_size
    hidden = mx.nd.ones((tokens, max(512, options.hidden_size)))
    weight = mx.nd.ones((hidden.shape[1], VOCABULARY))
    logits = mx.nd.dot(hidden, weight)
    other = logits.copy()

    def fastest(work: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            work()
            mx.nd.waitall()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    def measure() -> tuple[float, float]:
        product = fastest(lambda: mx.nd.dot(hidden, weight, out=logits))
        copy = fastest(lambda: logits.copyto(other))
        return 2e-9 * logits.size * hidden.shape[1] / product, 8e-9 * logits.size / copy

    return measure


def arithmetic_gflop(options: argparse.Namespace) -> float:
    """Matrix products of one step, forward and twice that backward: two layers and the decoder."""
    gates = {"lstm": 4, "gru": 3}.get(options.cell, 1)
    size, tokens = options.hidden_size, options.bptt * options.batch_size
    return 3 * 2 * tokens * (2 * gates * size * 2 * size + size * VOCABULARY) / 1e9


def gigabytes_moved(options: argparse.Namespace) -> float:
    """What no step is spared beside its matrix products: the softmax reads and writes the logits, the update reads
    weights and gradients and writes weights.
    """
    return 4 * VOCABULARY * (2 * options.bptt * options.batch_size + 3 * options.hidden_size) / 1e9


def steps_of(name: str, options: argparse.Namespace) -> Steps:
    """The steps of a contender; MXNet is imported in its process only, and by those alone that use it."""
    if name.startswith("pytorch"):
        return pytorch_steps(
            options.hidden_size,
            cell=options.cell,
            bptt=options.bptt,
            batch_size=options.batch_size,
            fused=name == "pytorch-fused",
            threads=options.threads,
        )
    import mxnet as mx

    from gluon_rnn.check_gpu import contenders

    cell = contenders.FROM_SCRATCH[options.cell] if name == "suite-from-scratch" else options.cell
    work = contenders.Work(options.hidden_size, cell, options.bptt, options.batch_size)
    if name == "notebook":
        return contenders.notebook_steps(work, mx.cpu())
    return contenders.suite_steps(work, mx.cpu(), precision="bfloat16" if name == "suite-bfloat16" else "float32")


def serve(options: argparse.Namespace) -> None:
    """A contender's process: warm up, then time as many steps as each line of standard input asks for."""
    if options.serve == "ceilings":
        measure = ceiling_rates(options)
        print("ready", flush=True)
        for _ in sys.stdin:
            print(*measure(), flush=True)
        return
    run = steps_of(options.serve, options)
    run(3)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - started
        print(seconds, peak_rss_mb(), flush=True)


def start(name: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """The process of a contender, in the environment that its users have; of a change, the suite's with that change."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(TUNED)}
    if name in CHANGES:
        _, built_on, replaced = CHANGES[name]
        tuned = process_environment("cpu", options.threads, environ={**plain, **built_on})
        environment = {key: value for key, value in {**tuned, **replaced}.items() if value is not None}
    elif name == "ceilings" or name.startswith("suite"):
        environment = process_environment("cpu", options.threads, environ=plain)
    else:
        environment = plain
    work = ("hidden_size", "cell", "bptt", "batch_size", "threads")
    arguments = [f"--{key.replace('_', '-')}={getattr(options, key)}" for key in work]
    command = [sys.executable, __file__, "--serve", "suite" if name in CHANGES else name, *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> str:
    """A contender's next line; its own words are on standard error where it has died."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        sys.exit(f"a contender ended with status {process.wait()}: {process.args}")
    return line


def parse_arguments(machine: Machine) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=200)
    parser.add_argument("--cell", default="lstm", choices=[*FROM_SCRATCH, "rnn_relu"])
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="steps a round (default: 10)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default: 7)")
    parser.add_argument("--threads", type=int, default=default_threads(machine.cores, 1), help="of suite and PyTorch")
    parser.add_argument(
        "--environment",
        action="store_true",
        help="time this suite alone, one choice of its environment left out at a time",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/step_time/here"),
        help="a folder for each machine (default: %(default)s)",
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Time all contenders, print the table and write it."""
    machine = describe_machine()
    options = parse_arguments(machine)
    if options.serve:
        serve(options)
        return

    names = list(CHANGES) if options.environment else contenders(options)
    processes = {name: start(name, options) for name in ["ceilings", *names]}
    for process in processes.values():
        answer(process)
        process.send_signal(signal.SIGSTOP)
    rates: list[tuple[float, float]] = []
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, process in processes.items():
            assert process.stdin
            process.send_signal(signal.SIGCONT)
            process.stdin.write(f"{options.steps}\n")
            process.stdin.flush()
            first, second = map(float, answer(process).split())
            process.send_signal(signal.SIGSTOP)
            if name == "ceilings":
                rates.append((first, second))
            else:
                seconds[name].append(first / options.steps)
                peaks[name] = second
    for process in processes.values():
        process.send_signal(signal.SIGCONT)
        process.communicate()
    text = table(options, machine, rates, seconds, peaks)
    print(text, end="")
    options.output.mkdir(parents=True, exist_ok=True)
    stem = f"{options.cell}-{options.hidden_size}-{options.bptt}{'-environment' if options.environment else ''}"
    (options.output / f"{stem}.md").write_text(text, encoding="utf-8")
    with (options.output / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["machine_id", "what", "round", "seconds_a_step", "gemm_gflop_per_second", "copy_gb_per_second"]
        )
        for name in names:
            for number, (value, rate) in enumerate(zip(seconds[name], rates, strict=True), 1):
                writer.writerow([machine.machine_id, name, number, f"{value:.5f}", *(f"{each:.1f}" for each in rate)])


def contenders(options: argparse.Namespace) -> list[str]:
    """All that can run here; why another cannot goes to standard error."""
    names = [name for name in TITLES if options.cell in FROM_SCRATCH or name != "suite-from-scratch"]
    if mkl_library() is None:
        names.remove("suite-bfloat16")
        print("MKL is not installed: bfloat16 is left out", file=sys.stderr)
    if importlib.util.find_spec("torch") is None:
        names = [name for name in names if not name.startswith("pytorch")]
        print("torch is not installed (it comes with the extra bench): PyTorch is left out", file=sys.stderr)
    return names


def table(
    options: argparse.Namespace,
    machine: Machine,
    rates: list[tuple[float, float]],
    seconds: dict[str, list[float]],
    peaks: dict[str, float],
) -> str:
    """The medians as Markdown; ratios and shares are medians of those of each round."""
    gemm, copy = (statistics.median(each) for each in zip(*rates, strict=True))
    gflop, moved = arithmetic_gflop(options), gigabytes_moved(options)
    titles = {**TITLES, **{name: title for name, (title, *_) in CHANGES.items()}}
    base = next(iter(seconds))
    lines = [
        f"{options.cell}, hidden {options.hidden_size}, bptt {options.bptt}, batch {options.batch_size}, vocabulary "
        f"{VOCABULARY:,}; {machine.cpu_name} ({machine.machine_id}), {options.threads} threads; medians of "
        f"{options.rounds} rounds of {options.steps} steps, interleaved.",
        "",
        f"Ceilings of this machine: float32 matrix products {gemm:.0f} GFLOP/s, copies {copy:.1f} GB/s. A step's "
        f"{gflop:.1f} GFLOP take {gflop / gemm:.3f} s at the least, and {moved / copy:.3f} s the {moved:.2f} GB that "
        "must be moved beside them.",
        "",
        f"| what | ms a step | fastest | slowest | speed against {titles[base]} | share of ceiling | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[base], values, strict=True))
        share = statistics.median(gflop / rate / value for (rate, _), value in zip(rates, values, strict=True))
        lines.append(
            f"| {titles[name]} | {statistics.median(values) * 1e3:.0f} | {min(values) * 1e3:.0f} "
            f"| {max(values) * 1e3:.0f} | {ratio:.2f} | {share:.0%} | {peaks[name]:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

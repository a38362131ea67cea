"""What a sweep of many short points costs beside the points themselves.

    .venv/bin/python benchmarks/sweep_overhead.py [--dataset wikitext-2] [--jobs 1]

Twelve throughput points (three cells, two lengths, two sizes) are run as ``scripts/run_sweep.py`` runs them, in a
folder that is removed afterwards. Compared are the time from the sweep's plan to its last table (the makespan) and what
the runs' own processes needed, and within these what came before and after training: the import of MXNet, the corpus,
the model, and the record.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.sweeps.planning import plan_sweep
from gluon_rnn.sweeps.running import run_sweep

AXES = {"cell": ["lstm", "gru", "rnn_tanh"], "bptt": [20, 35], "hidden_size": [100, 200]}


def main() -> None:
    """Run the points and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="wikitext-2", help="as the setting of that name (default: wikitext-2)")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of a point (default: 100)")
    parser.add_argument("--jobs", type=int, default=1, help="points side by side (default: 1)")
    options = parser.parse_args()
    machine = describe_machine()
    sweep = Sweep(
        "overhead", {"dataset": options.dataset, "device": "cpu", "max_steps": options.steps, "warmup_steps": 3}, AXES
    )
    with tempfile.TemporaryDirectory() as results:
        # Planning finds and measures the corpus; a user waits for that, too.
        started = time.perf_counter()
        plan = plan_sweep(sweep, results=Path(results), jobs=options.jobs)
        planned = time.perf_counter() - started
        records = run_sweep(plan)
        makespan = time.perf_counter() - started
    if wrong := [record for record in records if record.status != "ok"]:
        raise SystemExit(f"{len(wrong)} of {len(records)} points ended as {wrong[0].status}: {wrong[0].reason}")
    walls = [record.wall_seconds or 0.0 for record in records]
    besides = [wall - (record.train_seconds or 0.0) for wall, record in zip(walls, records, strict=True)]
    needed = sum(walls) / len(plan.slots)
    print(
        f"{len(records)} points on {records[0].config.dataset}, {len(plan.slots)} at a time; {machine.cpu_name} "
        f"({machine.machine_id}), {machine.cores} cores\n"
        f"makespan {makespan:.1f} s, of which planning {planned:.1f} s; the runs' processes {needed:.1f} s: "
        f"{makespan / needed - 1:.1%} more\n"
        f"a run's process beside its training: {sorted(besides)[len(besides) // 2]:.1f} s in the middle, "
        f"{max(besides):.1f} s at the most"
    )


if __name__ == "__main__":
    main()

#!/bin/sh
# Prints which MXNet suits this machine: cu112 if a GPU has compute capability 5.0 to 8.9, which is what the wheel for
# CUDA 11.2 carries machine code for (and it exists for x86-64 alone), else cpu. Says nothing where there is no driver.
[ "$(uname -m)" = x86_64 ] || { echo cpu; exit; }
nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
    awk '/^ *[0-9]+\.[0-9]+ *$/ && $1 >= 5.0 && $1 < 9.0 { found = 1 } END { print found ? "cu112" : "cpu" }'

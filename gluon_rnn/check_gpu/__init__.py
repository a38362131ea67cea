"""One command that says what works on a GPU, and how fast: ``gluon-rnn check-gpu``.

`running` starts each part of `parts` in a process of its own (`part`) and writes what it says as soon as it says it;
`page` makes ``check_gpu.md`` of that. The other modules are the parts; they alone import MXNet.
"""

"""Make a sweep's results a baseline: ``gluon-rnn promote`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("promote")

"""Run a sweep: ``gluon-rnn sweep`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("sweep")

"""Check this installation and this machine: ``gluon-rnn doctor`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("doctor")

"""Say whether results held against a baseline: ``gluon-rnn check-regression`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("check-regression")

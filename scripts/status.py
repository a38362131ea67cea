"""Show how far a sweep is: ``gluon-rnn status`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("status")

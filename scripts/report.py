"""Write the report of a sweep, or of several: ``gluon-rnn report`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("report")

"""Write text with a run's model: ``gluon-rnn generate`` from a checkout."""

from _launch import launch

if __name__ == "__main__":
    launch("generate")

"""``python -m gluon_rnn COMMAND`` is ``gluon-rnn COMMAND``."""

from gluon_rnn.cli import console

if __name__ == "__main__":
    console()

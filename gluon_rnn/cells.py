"""The classes that a cell of your own extends: ``--set cell=my_module:MyCell``.

They are found here whatever becomes of the modules that define them. Importing this module imports MXNet.
"""

from gluon_rnn.networks.layers import CustomCell, RecurrentLayer, ScannedCell

__all__ = ["CustomCell", "RecurrentLayer", "ScannedCell"]

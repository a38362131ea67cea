"""Networks: recurrent layers, regularization, and models built from a configuration.

Other subpackages use `build_model` and `build_network`, `SequenceModel`, and the layers that users' own cells extend.
"""

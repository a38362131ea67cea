"""From text to ids to batches. Only `corpora.loading`, `vectors.loading` and `batches`, which training uses, import
MXNet.

Planning uses `corpora.find_corpus` and `vectors.find_vectors`; `copies` brings what they found to another machine.
"""

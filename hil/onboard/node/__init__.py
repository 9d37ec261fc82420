"""The node service of the reference OS: artefacts, cluster configuration, inference.

It runs on the board as ``PYTHONPATH=/usr/lib/hil python3 -m hil.onboard.node`` and knows nothing of the rest of this
project: pure standard library, with numpy and ONNX Runtime imported only when a tile is inferred.
"""

"""The inference workload that proves the cluster works: a cloud mask of a Sentinel-2 scene.

Heavy imports (numpy, onnxruntime) happen inside the functions.
"""

from hil.workload.artefacts import PayloadArtefacts, ensure_artefacts

__all__ = ["PayloadArtefacts", "ensure_artefacts"]

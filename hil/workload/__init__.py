"""The payload that proves the cluster works: a cloud mask of a Sentinel-2 scene."""

from hil.workload.artefacts import PayloadArtefacts, ensure_artefacts

__all__ = ["PayloadArtefacts", "ensure_artefacts"]

"""Packages that take long to import: a command that does not need one does not import it."""

from __future__ import annotations

HEAVY = (
    "docker",
    "paramiko",
    "pyroute2",
    "pydantic",
    "numpy",
    "onnx",
    "onnxruntime",
    "jinja2",
    "rich",
    "serial",
    "yaml",
    "pytest",
)

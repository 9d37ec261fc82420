"""The lab file: what exists, checked, with the line of every fault."""

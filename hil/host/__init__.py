"""The host that benches stand on: packages, container engine, set-up, doctor, clean-up."""

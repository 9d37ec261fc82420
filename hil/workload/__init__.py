"""The payload that proves the cluster works: a cloud mask of a Sentinel-2 scene."""

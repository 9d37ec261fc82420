"""Loads the testbed's fixtures for campaigns (testplans/) and for the harness's own tests (tests/)."""

pytest_plugins = ["hil.campaign.fixtures.bench", "hil.campaign.fixtures.rollout"]

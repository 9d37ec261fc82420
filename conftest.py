"""Loads the testbed's hil.campaign.fixtures for campaigns (testplans/) and for the harness's own tests (tests/)."""

pytest_plugins = ["hil.campaign.fixtures.bench", "hil.campaign.fixtures.rollout"]

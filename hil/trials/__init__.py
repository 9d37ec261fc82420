"""Many trials of a rollout under faults, and what they prove."""

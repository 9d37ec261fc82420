"""Every night: several campaigns and series of trials, unattended, and what the morning must know of them."""

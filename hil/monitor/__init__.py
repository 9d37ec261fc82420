"""How a bench is doing, now: one look at it, for people (`hil bench watch`) and for Prometheus (`hil bench export`)."""

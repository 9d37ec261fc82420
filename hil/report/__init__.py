"""From a run directory alone: result.json, JUnit XML and the HTML page."""

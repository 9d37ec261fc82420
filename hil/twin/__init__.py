"""The twin on the host: from lab file and orbit to parameters, predictions and pictures."""

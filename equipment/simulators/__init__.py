"""The simulated line: plant physics as pure code, and the OPC UA servers around it."""

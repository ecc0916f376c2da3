"""Tests of the engine: hand-worked numbers, an independent reference, identities, harmlessness, bad input."""

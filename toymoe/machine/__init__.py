"""This machine: how fast it trains, and whether toymoe runs here."""

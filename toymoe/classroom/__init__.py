"""The lessons' side of the package: notebooks, checks, predictions, marking."""

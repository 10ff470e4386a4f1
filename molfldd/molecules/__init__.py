"""Molecules: codec, data sets, network, metrics, files."""

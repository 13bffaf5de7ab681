"""Candidates: grids, samplers, filters, racing, limits and warm start."""

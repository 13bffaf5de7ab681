"""Candidates: grids, samplers, halving, filters, racing, limits."""

"""What to try: grids, samplers, filters, and when it is enough."""

"""Images that the nodes draw: charts, maps and grids."""

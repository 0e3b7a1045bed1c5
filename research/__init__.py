"""Research: commands that fit the simulator and write documentation pages; outside the wheel."""

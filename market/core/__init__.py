"""What every package uses: clock, errors, files, instruments."""

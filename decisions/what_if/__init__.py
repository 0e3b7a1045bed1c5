"""What-if: accounts with trades and deposits applied."""

"""Score books of accounts: requirement, forecast, add-on and reasons; records and replay."""

"""What pages show, one module a page: plain values and charts by what the endpoint knows."""

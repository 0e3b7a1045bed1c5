"""What pages show, computed from the operations of the endpoint: plain values and charts."""

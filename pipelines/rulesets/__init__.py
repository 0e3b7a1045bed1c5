"""Import of rule sets and their depth figures."""

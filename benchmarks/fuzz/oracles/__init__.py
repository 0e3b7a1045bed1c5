"""What must hold of responses, of decisions and between responses."""

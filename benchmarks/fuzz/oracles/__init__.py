"""What must hold of answers, of decisions and between answers."""

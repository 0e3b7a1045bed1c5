"""Pictures of README and documentation: drawn as SVG from text and from committed results."""

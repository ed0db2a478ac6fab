"""Training of the two small models of the demo."""

"""Ways to copy an image into the private registry."""

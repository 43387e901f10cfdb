"""Asks Cloud Controller and UAA over HTTP; what the answers mean for droplets is decided elsewhere."""

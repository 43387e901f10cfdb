"""An OCI registry, read and written in the words of the distribution specification."""

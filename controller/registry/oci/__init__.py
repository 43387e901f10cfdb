"""The OCI distribution protocol: manifests, blobs, uploads and referrers of one repository."""

"""Who signs the certificates of devices."""

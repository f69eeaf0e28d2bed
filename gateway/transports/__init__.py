"""What moves bytes and messages between the gateway and its devices."""

"""What a simulated device says: pure machines, one per protocol."""

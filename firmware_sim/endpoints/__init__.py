"""Where simulated devices are reached: ptys and brokers, one kind per file."""

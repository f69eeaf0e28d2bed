"""What tests are made of: virtual time, hostile pipes, real programs, brokers and databases."""

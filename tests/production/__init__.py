"""The parts that carry the grid past one machine: other brokers, stores, databases and hosts, for real."""

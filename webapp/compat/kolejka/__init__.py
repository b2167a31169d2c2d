"""The HTTP protocol of kolejka's server, for its client and its foreman as they are."""

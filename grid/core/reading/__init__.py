"""What people see of the records; nothing is written here."""

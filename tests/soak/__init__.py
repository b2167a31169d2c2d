"""Random faults under many tasks for a while, and the account of all of them afterwards."""

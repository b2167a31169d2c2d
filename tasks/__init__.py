"""What a task is: pure values and decisions, no input or output, no clock."""

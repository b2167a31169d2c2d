"""What leaves the grid when a task ends: webhooks and e-mails."""

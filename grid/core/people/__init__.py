"""Who people are, what they may do, what was decided for them, and who did what."""

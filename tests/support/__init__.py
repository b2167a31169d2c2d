"""What several suites share: needs of the machine, images, helper programs."""

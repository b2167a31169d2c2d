"""Accounting for programs inside containers; standard library only, so that it runs anywhere."""

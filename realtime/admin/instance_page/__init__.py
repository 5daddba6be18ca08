"""The page of an instance in the admin: all of a number on one page, and what can be done with it."""

"""A provider and a transport that are registered by settings alone, as CONTRIBUTING's table has it."""

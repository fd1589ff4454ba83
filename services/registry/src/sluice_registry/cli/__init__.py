"""Commands of the registry; entry points name them one by one."""

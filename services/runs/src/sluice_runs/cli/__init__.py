"""Commands of the run service; entry points name them one by one."""

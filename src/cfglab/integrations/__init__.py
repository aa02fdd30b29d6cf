"""Other programs that cfglab meets: one file each, the only one that imports it."""

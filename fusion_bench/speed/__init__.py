"""Speed of every strategy on a device relative to the device's ceilings, and comparison of devices."""

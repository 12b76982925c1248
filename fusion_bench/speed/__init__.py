"""Speed of every strategy on a device, against the device's ceilings; and devices against each other."""

"""How fast every strategy is on a device, against what that device can do; and devices against each other."""

"""Networks that are written differently and compute the same: how many raise an alarm?"""

"""What a sweep takes, against the commands that it stands for."""

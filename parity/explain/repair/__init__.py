"""What undoes a proved difference: changes of a layer, and of the user's source."""

"""What tokens cost here, against hosted prices."""

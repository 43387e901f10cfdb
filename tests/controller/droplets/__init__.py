"""How droplets are reconciled, over a Cloud Controller in memory and a real store, in virtual time."""

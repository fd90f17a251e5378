"""What every other room stands on: errors, the store, leases, seeds, processes, figures. Imports no room."""

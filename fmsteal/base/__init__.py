"""What every other room builds on: errors, the store, leases, seeds, processes, figures. Imports no other room."""

"""What `import fmsteal` offers: composing, running and opening jobs from Python."""

"""How a network is trained and used: recipes, modules, solvers, curves, learners, inference."""

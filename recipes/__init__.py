"""What should be done: recipes, routes and test protocols. Knows no tool and no clock."""

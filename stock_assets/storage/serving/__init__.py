"""What the service reads: queries whose whole answer is one statement, parameters bound."""

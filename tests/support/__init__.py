"""What the tests against real servers, engines and receivers have in common."""

"""What commands that tests start run first."""
